"""What the demo does about its index: builds it, leaves it alone, or rebuilds it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.cli import demo
from rag.config_file import load_settings
from rag.corpus.openi import NAME
from rag.index import build_index, read_info, verify_index
from rag.settings import Settings

pytestmark = pytest.mark.slow

Ensure = Callable[[FakeEncoder], list[str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    places = {"home": tmp_path, "index_dir": tmp_path / "index"}
    return load_settings("cpu").model_copy(update=places)


@pytest.fixture
def ensure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Ensure:
    """Ensure an index of a small stand-in for Open-I; returns the messages to the user."""
    monkeypatch.setattr("rag.corpus.openi.read_openi_reports", lambda: small_corpus(30, name=NAME))

    def ask(encoder: FakeEncoder) -> list[str]:
        messages: list[str] = []
        demo.ensure_index(settings, encoder, say=messages.append)
        return messages

    return ask


def test_an_index_is_built_once(ensure: Ensure, settings: Settings) -> None:
    (message,) = ensure(FakeEncoder())
    assert "indexing 30 reports" in message
    assert verify_index(settings.index_dir).passed
    assert ensure(FakeEncoder()) == []


def test_index_only_builds_the_index_and_opens_no_page(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.corpus.openi.read_openi_reports", lambda: small_corpus(30, name=NAME))
    monkeypatch.setattr("rag.factory.load_encoder", lambda settings: FakeEncoder())
    monkeypatch.setattr(demo, "read_settings", lambda config, *, no_llm: settings)
    monkeypatch.setattr(demo, "run_demo", lambda *_, **__: pytest.fail("a page was opened"))
    demo.demo(index_only=True)
    assert read_info(settings.index_dir).count == 30


def test_an_index_with_other_graph_settings_is_rebuilt_without_embedding(
    ensure: Ensure, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(FakeEncoder())
    path = settings.index_dir / "index.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["chroma"]["max_neighbors"] = 16
    path.write_text(json.dumps(values), encoding="utf-8")
    encoder = FakeEncoder()
    monkeypatch.setattr(encoder, "embed_texts", lambda texts: pytest.fail("embedded again"))
    assert "this program has changed" in ensure(encoder)[0]
    assert verify_index(settings.index_dir).passed


def test_an_index_of_another_encoder_is_embedded_again(ensure: Ensure, settings: Settings) -> None:
    ensure(FakeEncoder())
    assert "the encoder has changed" in ensure(FakeEncoder("fake@2", dim=8))[0]
    assert verify_index(settings.index_dir).passed


def test_an_index_with_the_users_own_reports_is_left_alone(
    ensure: Ensure, settings: Settings
) -> None:
    build_index(small_corpus(10, name="mine"), FakeEncoder(), settings.index_dir)
    before = read_info(settings.index_dir)
    assert ensure(FakeEncoder("fake@2", dim=8)) == []
    assert read_info(settings.index_dir) == before
