"""Embedding files into an array: rows, ids, failures."""

import csv
import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.fake_encoder import FakeEncoder
from typer.testing import CliRunner

from encoders.embed_files import embed_files
from rag.cli.main import app
from rag.errors import UsageError


def lines(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def image(path: Path, seed: int) -> tuple[str, Path]:
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.name, path


def test_rows_match_ids_and_failures_are_listed(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = [image(tmp_path / "a.png", 1), ("broken", broken), image(tmp_path / "b.png", 2)]
    seen = []
    count, failed = embed_files(
        images, encoder=FakeEncoder(), out=tmp_path / "out" / "v", on_image=lambda: seen.append(1)
    )
    assert (count, failed, len(seen)) == (2, 1, 3)
    vectors = np.load(tmp_path / "out" / "v.npy")
    assert vectors.shape == (2, 16)
    assert vectors.dtype == np.float32
    assert not np.allclose(vectors[0], vectors[1])
    assert lines(tmp_path / "out" / "v.csv") == [["row", "id"], ["0", "a.png"], ["1", "b.png"]]
    assert lines(tmp_path / "out" / "v.failed.csv")[1][0] == "broken"

    embed_files(images[:1], encoder=FakeEncoder(), out=tmp_path / "out" / "v.npy")
    assert len(np.load(tmp_path / "out" / "v.npy")) == 1
    assert not (tmp_path / "out" / "v.failed.csv").exists()


def test_a_full_disk_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, out = [image(tmp_path / f"{name}.png", 1) for name in "ab"], tmp_path / "out" / "v"
    embed_files(images[:1], encoder=FakeEncoder(), out=out)
    before = [(out.parent / name).read_bytes() for name in ("v.npy", "v.csv")]

    def full(path: Path, rows: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("encoders.embed_files.np.save", full)
    with pytest.raises(OSError, match="No space"):
        embed_files(images, encoder=FakeEncoder(), out=out)
    assert [(out.parent / name).read_bytes() for name in ("v.npy", "v.csv")] == before


def test_a_dot_in_the_name_is_kept(tmp_path: Path) -> None:
    for name in ("emb.train", "emb.val.npy"):
        embed_files([image(tmp_path / "a.png", 1)], encoder=FakeEncoder(), out=tmp_path / name)
    written = {path.name for path in tmp_path.glob("emb*")}
    assert written == {f"emb.{part}{end}" for part in ("train", "val") for end in (".npy", ".csv")}


def test_several_threads_keep_the_order(tmp_path: Path) -> None:
    images = [image(tmp_path / f"{number}.png", number) for number in range(23)]
    images[5:5] = [("lost", tmp_path / "lost.png")]
    for threads in (1, 4):
        out = tmp_path / str(threads) / "v.npy"
        found = embed_files(iter(images), encoder=FakeEncoder(), out=out, threads=threads)
        assert found == (23, 1)
    for name in ("v.npy", "v.csv", "v.failed.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "4" / name).read_bytes()


def test_no_image_is_an_empty_array(tmp_path: Path) -> None:
    assert embed_files([], encoder=FakeEncoder(), out=tmp_path / "v") == (0, 0)
    assert np.load(tmp_path / "v.npy").shape == (0, 16)


def test_commands_name_a_missing_folder_or_config(tmp_path: Path) -> None:
    wrong = CliRunner().invoke(app, ["embed", str(tmp_path / "nowhere"), str(tmp_path / "v")])
    assert isinstance(wrong.exception, UsageError)
    assert "nowhere" in str(wrong.exception)
    config = tmp_path / "none.toml"
    lost = CliRunner().invoke(app, ["train", "--config", str(config), "--out", str(tmp_path / "r")])
    assert isinstance(lost.exception, UsageError)
    assert "none.toml" in str(lost.exception)
