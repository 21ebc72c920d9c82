"""LangChain's own conformance suite for what we implement of it, against a real small Chroma store.

`ReportRetriever` must do whatever LangChain asks of a retriever. `ReportPipeline` is a Runnable of
our own types, for which the suite has no tests; test_rag_pipeline.py has ours.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_encoder import FakeEncoder
from langchain_tests.integration_tests import RetrieversIntegrationTests
from small_corpus import small_corpus

from rag.index import ReportIndex, build_index, open_index
from rag.retriever import ReportRetriever


@pytest.fixture(scope="module")
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture(scope="module")
def store(encoder: FakeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportIndex]:
    directory: Path = tmp_path_factory.mktemp("store")
    build_index(small_corpus(60), encoder, directory)
    with open_index(directory, encoder=encoder) as store:
        yield store


@pytest.mark.anyio
class TestReportRetriever(RetrieversIntegrationTests):
    """The standard tests; nothing here is overridden."""

    @pytest.fixture(autouse=True)
    def _parts(self, store: ReportIndex, encoder: FakeEncoder) -> None:
        self.parts = {"store": store, "encoder": encoder}

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
