"""Images are decoded once, in order, and an interrupted decoding resumes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.base import CxrImage
from encoders.image_io import read_image
from encoders.training import tensors as module
from encoders.training.dataset import TrainingDataError
from encoders.training.tensors import load_images


def write(folder: Path, count: int) -> list[Path]:
    """Images of 40 x 40 that say which they are by their mean."""
    paths = []
    for number in range(count):
        ramp = np.linspace(-20, 20, 40)[None].repeat(40, 0) + 30 + number * 10
        paths.append(folder / f"{number}.png")
        Image.fromarray(ramp.astype(np.uint8)).save(paths[-1])
    return paths


def test_images_are_decoded_in_order_with_progress(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write(tmp_path, 17)
    with caplog.at_level("INFO"):
        images = load_images(paths, side=40, cache=tmp_path / "c")
    assert images.shape == (17, 40, 40)
    assert images.mean((1, 2)) == pytest.approx(np.arange(17) * 10 + 30, abs=1)
    assert "decoded 17 of 17 images" in caplog.messages
    assert sorted(path.suffix for path in (tmp_path / "c").iterdir()) == [".lock", ".npy"]


def test_an_interrupted_decoding_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_SIZE", 4)
    paths = write(tmp_path, 12)

    read: list[Path] = []

    def cut(path: Path) -> CxrImage:
        read.append(path)
        if path == paths[9]:
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(module, "read_image", cut)
    with pytest.raises(KeyboardInterrupt):
        load_images(paths, side=40, cache=tmp_path)
    read.clear()
    monkeypatch.setattr(module, "read_image", lambda path: (read.append(path), read_image(path))[1])
    images = load_images(paths, side=40, cache=tmp_path)
    assert sorted(read) == sorted(paths[8:])
    assert images.mean((1, 2)) == pytest.approx(np.arange(12) * 10 + 30, abs=1)


def test_images_that_cannot_be_read_are_named_together(tmp_path: Path) -> None:
    paths = write(tmp_path, 5)
    for number in (1, 3):
        paths[number].write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(TrainingDataError, match=r"2 of 5 images cannot be read(.|\n)*1.png"):
            load_images(paths, side=40, cache=tmp_path / "c")
    write(tmp_path, 5)
    assert load_images(paths, side=40, cache=tmp_path / "c").shape == (5, 40, 40)


def test_progress_of_another_array_is_ignored(tmp_path: Path) -> None:
    paths = write(tmp_path, 3)
    load_images(paths, side=40, cache=tmp_path / "c")
    (whole,) = (tmp_path / "c").glob("*.npy")
    whole.unlink()
    whole.with_suffix(".done").write_text("2")
    np.save(whole.with_name(f".{whole.name}"), np.zeros((2, 40, 40), np.uint8))
    images = load_images(paths, side=40, cache=tmp_path / "c")
    assert images.mean((1, 2)) == pytest.approx([30, 40, 50], abs=1)


def test_without_images_no_file_is_written(tmp_path: Path) -> None:
    assert load_images([], side=40, cache=tmp_path / "c").shape == (0, 40, 40)
    assert not (tmp_path / "c").exists()
