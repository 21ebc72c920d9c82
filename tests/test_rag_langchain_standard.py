"""LangChain's own conformance suite for what we implement of it, against a real small Chroma store.

`ReportRetriever` must do whatever LangChain asks of a retriever, `EncoderEmbeddings` what it asks
of embeddings. `ReportPipeline` is a Runnable of our own types, for which the suite has no tests;
test_rag_pipeline.py has ours, and the example of docs/retrieval.md is run here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from demo.phantom import write_phantom_dicom
from encoders.eclip.encoder import load_encoder
from rag.errors import UsageError
from rag.index import ReportIndex, build_index
from rag.retriever import EncoderEmbeddings, ReportRetriever


@pytest.fixture(scope="module")
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture(scope="module")
def store(encoder: FakeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportIndex]:
    directory: Path = tmp_path_factory.mktemp("store")
    build_index(small_corpus(60), encoder, directory)
    with ReportIndex(directory, encoder=encoder) as store:
        yield store


@pytest.mark.anyio
class TestReportRetriever(RetrieversIntegrationTests):
    """The standard tests; nothing here is overridden."""

    @pytest.fixture(autouse=True)
    def _parts(self, store: ReportIndex, encoder: FakeEncoder) -> None:
        self.parts = {"index": store, "encoder": encoder}

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @property
    def retriever_constructor(self) -> type[ReportRetriever]:
        return ReportRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self.parts

    @property
    def retriever_query_example(self) -> str:
        return "Small left pleural effusion."


class _OfFakeEncoder:
    @property
    def embeddings_class(self) -> type[EncoderEmbeddings]:
        return EncoderEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"encoder": FakeEncoder()}


class TestEmbeddings(_OfFakeEncoder, EmbeddingsUnitTests):
    """The standard tests; nothing here is overridden."""


@pytest.mark.anyio
class TestEmbeddingsInUse(_OfFakeEncoder, EmbeddingsIntegrationTests):
    """The standard tests; nothing here is overridden."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"


def test_embeddings_need_an_encoder_of_texts() -> None:
    class ImagesOnly:
        encoder_id, preprocess_hash, dim = "images@1", "none", 4

        def embed_images(self, images: Any) -> Any:
            raise NotImplementedError

    with pytest.raises(UsageError, match="images only"):
        EncoderEmbeddings(ImagesOnly())


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parent.parent / "docs" / "retrieval.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    build_index(small_corpus(), load_encoder(), tmp_path / "index")
    write_phantom_dicom(tmp_path / "image.dcm", seed=1, size=256)
    monkeypatch.setenv("CXR_RAG_HOME", str(tmp_path))
    monkeypatch.setenv("CXR_RAG_LLM__ENABLED", "false")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(example, found)  # noqa: S102 - our own documentation
    assert len(found["documents"]) == 5
    assert found["prediction"].status.value in {"ok", "abstained"}
    (nearest,) = found["notes"].similarity_search(found["documents"][2].page_content, k=1)
    assert nearest.page_content == found["documents"][2].page_content
