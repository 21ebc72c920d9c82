"""Settings: presets, the environment, and errors that name the key."""

from pathlib import Path

import pytest

from rag.config_file import load_settings, preset_names
from rag.errors import SettingsError


@pytest.mark.parametrize("preset", preset_names())
def test_presets_load(preset: str) -> None:
    assert load_settings(preset).llm.url.endswith("/v1")


def test_the_environment_overrides_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_RAG_LLM__URL", "http://127.0.0.1:9999/v1")
    settings = load_settings("cpu")
    assert settings.llm.url == "http://127.0.0.1:9999/v1"
    assert settings.llm.template == "select_v1", "the rest of the section still comes from the file"


def test_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[retrieval]\nkk = 3\n")
    with pytest.raises(SettingsError, match=r"retrieval\.kk"):
        load_settings(path)


def test_value_out_of_range_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[retrieval]\nk = 0\n")
    with pytest.raises(SettingsError, match=r"retrieval.k: .*value: 0"):
        load_settings(path)


@pytest.mark.parametrize(("name", "text"), [("nosuch", None), ("bad.toml", "k = = 3")])
def test_missing_or_broken_file(tmp_path: Path, name: str, text: str | None) -> None:
    path = tmp_path / name
    if text:
        path.write_text(text)
    with pytest.raises(SettingsError):
        load_settings(path)


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXR_RAG_HOME", str(tmp_path))
    assert load_settings().index_dir == tmp_path / "index"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("CXR_RAG_LMM__URL", "http://127.0.0.1:1/v1", "'lmm' is not one of"),
        ("CXR_RAG_LLM__ULR", "http://127.0.0.1:1/v1", "'ulr' is not one of"),
        ("CXR_RAG_LLM__URL__X", "1", "'x'"),
        ("CXR_RAG_LLM__URL", "127.0.0.1:8100", "llm.url"),
        ("CXR_RAG_LLM__URL", "ftp://127.0.0.1/v1", "llm.url"),
        ("CXR_RAG_CHROMA_URL", "localhost:8000", "chroma_url: URL scheme should be 'http'"),
        ("CXR_RAG_PAGE__WORKLIST_FROM", "server/dicom-web", "page.worklist_from: .*valid URL"),
        ("CXR_RAG_LLM", "{", "llm"),
    ],
)
def test_an_invalid_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=words):
        load_settings()


def test_other_variables_of_ours_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_RAG_LOG", "DEBUG")
    monkeypatch.setenv("CXR_RAG_DICOMWEB_TOKEN", "secret")
    load_settings()


def test_the_api_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_RAG_LLM__API_KEY", "secret-key")
    assert "secret-key" not in repr(load_settings())
