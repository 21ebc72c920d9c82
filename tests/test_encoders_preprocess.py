"""The evaluation transform: invariances, values, and identity."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.published_models import made_up_image

from encoders.base import CxrImage
from encoders.packaged_weights import EncoderError
from encoders.preprocess import TRANSFORM_FILE, EvalTransform, resize_square

SMALL = EvalTransform(size=32)


@settings(max_examples=30)
@given(gain=st.floats(0.1, 1.0), offset=st.floats(0.0, 1.0))
def test_a_linear_window_changes_nothing(gain: float, offset: float) -> None:
    plain = made_up_image()
    pixels = plain.pixels * np.float32(gain) + np.float32(offset * (1 - gain))
    windowed = CxrImage(pixels, source_sha256="")
    torch.testing.assert_close(SMALL(windowed), SMALL(plain), atol=2e-3, rtol=0)


def test_an_image_in_its_true_shape_looks_like_the_same_image_stored_squashed() -> None:
    tall = made_up_image(96, 64)
    squashed = resize_square(torch.from_numpy(tall.pixels), 64).numpy()
    difference = SMALL(tall) - SMALL(CxrImage(squashed, source_sha256=""))
    assert difference.abs().mean() < 0.05  # of a scale whose whole range is 4


def test_shrinking_averages_pixels() -> None:
    """Averaged, not sampled: a bright dot of one pixel still leaves its trace."""
    pixels = torch.zeros(256, 256)
    pixels[101, 77] = 1.0
    assert resize_square(pixels, 32).sum() * 64 == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_flat_image_becomes_black(value: float) -> None:
    flat = CxrImage(np.full((40, 40), value, dtype=np.float32), source_sha256="")
    torch.testing.assert_close(SMALL(flat), torch.full((3, 32, 32), -2.0), atol=1e-3, rtol=0)


def test_the_same_image_gives_the_same_bits_in_the_tower_shape() -> None:
    first, second = SMALL(made_up_image()), SMALL(made_up_image())
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert torch.equal(first[0], first[2])


def test_stretch_puts_the_percentiles_at_zero_and_one() -> None:
    ramp = torch.arange(101.0).reshape(1, 1, 101) / 200
    stretched = EvalTransform().stretch(ramp).flatten()
    assert stretched[1] == 0
    assert stretched[50] == pytest.approx(0.5)
    assert stretched[99] == 1
    assert stretched[100] == 1  # clamped


def test_the_hash_follows_every_setting() -> None:
    base = EvalTransform()
    changed = [
        EvalTransform(size=160),
        EvalTransform(low_percentile=0.5),
        EvalTransform(high_percentile=100.0),
        EvalTransform(mean=0.58),
        EvalTransform(std=0.26),
        EvalTransform(channels=1),
    ]
    assert len({transform.hash for transform in [base, *changed]}) == 7


def test_a_transform_is_read_as_it_was_written(tmp_path: Path) -> None:
    EvalTransform(size=160, std=0.26).save_pretrained(tmp_path)
    assert EvalTransform.from_pretrained(tmp_path) == EvalTransform(size=160, std=0.26)


@pytest.mark.parametrize("change", [{"flip": True}, {"size": None}])
def test_an_unknown_or_missing_setting_is_refused(
    change: dict[str, object], tmp_path: Path
) -> None:
    EvalTransform().save_pretrained(tmp_path)
    file = tmp_path / TRANSFORM_FILE
    changed = json.loads(file.read_text()) | change
    kept = {key: value for key, value in changed.items() if value is not None}
    file.write_text(json.dumps(kept))
    with pytest.raises(EncoderError, match="keys"):
        EvalTransform.from_pretrained(tmp_path)
