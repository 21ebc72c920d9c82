"""What the demo does about its store: builds it, leaves it, or makes it again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from small_corpus import small_corpus

from rag.cli import demo
from rag.corpus.openi import NAME
from rag.index import build_index
from rag.index.check import verify_index
from rag.settings import Settings, load_settings
from rag.store.files import MANIFEST, current_edition

Ensure = Callable[[FakeEncoder], list[str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings("cpu").model_copy(update={"home": tmp_path})


@pytest.fixture
def ensure(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Ensure:
    """Ask for the store with a small stand-in for Open-I; gives what the user is told."""
    monkeypatch.setattr("rag.corpus.openi.read_openi", lambda: small_corpus(30, name=NAME))

    def ask(encoder: FakeEncoder) -> list[str]:
        told: list[str] = []
        demo.ensure_index(settings, encoder, say=told.append)
        return told

    return ask


def test_a_store_is_built_once(ensure: Ensure, settings: Settings) -> None:
    (told,) = ensure(FakeEncoder())
    assert "indexing 30 reports" in told
    assert verify_index(settings.index_dir).passed
    assert ensure(FakeEncoder()) == []


def test_a_store_of_an_older_program_is_made_again_without_embedding(
    ensure: Ensure, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(FakeEncoder())
    manifest = current_edition(settings.index_dir) / MANIFEST
    values = json.loads(manifest.read_text(encoding="utf-8"))
    values["chroma"]["records"] = "one a report"
    manifest.write_text(json.dumps(values), encoding="utf-8")
    encoder = FakeEncoder()
    monkeypatch.setattr(encoder, "embed_texts", lambda texts: pytest.fail("embedded again"))
    assert "this program has changed" in ensure(encoder)[0]
    assert verify_index(settings.index_dir).passed


def test_a_store_of_another_encoder_is_embedded_again(ensure: Ensure, settings: Settings) -> None:
    ensure(FakeEncoder())
    assert "the encoder has changed" in ensure(FakeEncoder("fake@2", dim=8))[0]
    assert verify_index(settings.index_dir).passed


def test_a_store_with_the_users_own_reports_is_left_alone(
    ensure: Ensure, settings: Settings
) -> None:
    build_index(small_corpus(10, name="mine"), FakeEncoder(), settings.index_dir)
    before = current_edition(settings.index_dir)
    assert ensure(FakeEncoder("fake@2", dim=8)) == []
    assert current_edition(settings.index_dir) == before
