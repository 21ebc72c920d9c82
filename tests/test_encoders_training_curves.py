"""The picture of a run's numbers."""

import logging
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from encoders.training.curves import FILE, write_curves

LOSS = {"loss": [(step, 10 / step) for step in range(1, 121)], "val R@10 <both>": [(40, 0.1)]}


def test_the_picture_shows_every_number_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='not installed: pip install "cxr-rag[plots]"')
    write_curves({}, tmp_path)
    assert not (tmp_path / FILE).exists(), "there is no number yet"
    pictures = []
    for _ in range(2):
        write_curves(LOSS | {"never finite": [(1, float("nan"))]}, tmp_path)
        pictures.append((tmp_path / FILE).read_bytes())
    assert pictures[0] == pictures[1]
    ElementTree.fromstring(pictures[0])  # noqa: S314 - our own file
    for name in ("loss", "val R@10", "never finite"):
        assert name.encode() in pictures[0]


def test_without_matplotlib_training_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with caplog.at_level(logging.INFO):
        write_curves(LOSS, tmp_path)
    assert "cxr-rag[plots]" in caplog.text
    assert not (tmp_path / FILE).exists()
