"""Settings: presets load, the environment wins, a typing mistake is an error that names itself."""

from pathlib import Path

import pytest

from rag.errors import SettingsError
from rag.settings import PRESETS, load_settings


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_presets_load(preset: str) -> None:
    assert load_settings(preset).llm.url.endswith("/v1")


def test_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
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
