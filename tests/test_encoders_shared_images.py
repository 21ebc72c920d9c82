"""Real images match their manifest."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.image_reading import read_error

from encoders.image_io import read_image, read_image_info, read_raw
from encoders.images.raw_image import MIN_SIDE, ReadFailure

DATA = Path(os.environ.get("CXR_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))


def manifest() -> list[dict[str, Any]]:
    path = DATA / "dicom" / "manifest.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.skipif(
    not manifest(), reason="no shared images: CXR_DATA names no folder with dicom/manifest.jsonl"
)
def test_shared_images_match_their_manifest() -> None:
    for entry in manifest():
        path = DATA / "dicom" / entry["file"]
        if not entry["decode"].startswith("ok") or entry["rows"] < MIN_SIDE:
            assert read_error(path).reason in (
                ReadFailure.UNDECODABLE,
                ReadFailure.NO_PIXELS,
                ReadFailure.TOO_SMALL,
            )
            continue
        image, raw, info = read_image(path), read_raw(path), read_image_info(path)
        assert image.pixels.shape == (entry["rows"], entry["cols"]), entry["file"]
        assert raw.modality == info.modality == entry["modality"]
        assert info.body_part == entry["body_part"]
        if entry["view"] in ("PA", "AP"):
            assert image.view.value == entry["view"]
        else:  # words of the series may say what the view position does not
            assert image.view.value in ("UNKNOWN", "LATERAL")
        assert image.pixels.max() > 0.8
        assert image.pixels.std() > 0.05, "no contrast"
        if not entry["has_modality_lut_seq"]:
            _, dtype, _, low, _, high = entry["decode"].split()[0:6]
            values = raw.codes * raw.slope + raw.intercept
            # another decoder's DCT may round the last bit otherwise
            assert abs(values.min() - int(low)) <= 1, (entry["file"], dtype)
            assert abs(values.max() - int(high)) <= 1, (entry["file"], dtype)


@pytest.mark.skipif(
    not manifest(), reason="no shared images: CXR_DATA names no folder with dicom/manifest.jsonl"
)
def test_one_shared_image_is_the_same_in_every_transfer_syntax() -> None:
    derived = sorted((DATA / "dicom" / "derived").glob("test3_*.dcm"))
    assert len(derived) >= 6
    images = [read_image(path).pixels for path in derived]
    for image in images[1:]:
        assert np.abs(image - images[0]).max() <= 1 / 255 + 1e-6
