"""The processor in front of a frozen encoder: its file, its folds, and what training touches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoders.base import CxrImage
from encoders.eclip.heatmap import build_processor
from encoders.eclip.model import EclipModel
from encoders.eclip.region_steering import (
    PROCESSOR,
    ProcessorSteering,
    load_processor,
    load_steering,
    save_processor,
)
from encoders.eclip.weights import SHIPPED, load_pretrained
from encoders.packaged_weights import EncoderError
from encoders.preprocess import EvalTransform
from encoders.training import region_steering
from encoders.training.region_steering import FOLDS, Cases, fit, folds_of, said

IDENTITY = {"kind": "identity_start"}


@pytest.fixture(scope="module")
def shipped() -> tuple[EclipModel, EvalTransform]:
    return load_pretrained(SHIPPED)


def image() -> CxrImage:
    pixels = np.random.default_rng(0).random((300, 250), dtype=np.float32)
    return CxrImage(pixels=pixels, source_sha256="0")


def test_a_processor_that_changes_nothing_leaves_the_vector(
    shipped: tuple[EclipModel, EvalTransform],
) -> None:
    model, transform = shipped
    with torch.inference_mode():
        vector = model.encode_image(transform(image()).unsqueeze(0))[0].numpy()
    heat = np.zeros((256, 256), np.float32)
    heat[50:90, 60:99] = 1
    drawn = ProcessorSteering(model, transform, build_processor(IDENTITY)).steer(
        image(), vector, heat
    )
    np.testing.assert_allclose(drawn, vector, atol=1e-5)


def test_a_processor_comes_back_from_its_file_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    processor = build_processor({"kind": "attention"})
    path = tmp_path / "part.safetensors"
    save_processor(path, processor, {"processor": {"kind": "attention"}, "encoder_id": "x@1"})
    again, facts = load_processor(path)
    assert facts["encoder_id"] == "x@1"
    for mine, theirs in zip(processor.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(theirs, mine.detach(), atol=1e-3, rtol=1e-3)
        assert not theirs.requires_grad
    path.write_bytes(path.read_bytes()[:-100])
    for bad in (path, tmp_path / "none"):
        with pytest.raises(EncoderError, match="restore"):
            load_processor(bad)


def test_a_folder_steers_by_its_own_processor_and_by_no_other(tmp_path: Path) -> None:
    assert load_steering("eclip-lite0@1", tmp_path) is None
    for part in SHIPPED.iterdir():
        (tmp_path / part.name).symlink_to(part)
    facts = {"processor": IDENTITY, "encoder_id": "eclip-lite0@1"}
    save_processor(tmp_path / PROCESSOR, build_processor(IDENTITY), facts)
    assert isinstance(load_steering("eclip-lite0@1", tmp_path), ProcessorSteering)
    with pytest.raises(EncoderError, match="eclip-lite0@2"):
        load_steering("eclip-lite0@2", tmp_path)


@given(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=60))
def test_a_patient_is_in_one_fold(patients: list[str]) -> None:
    folds = folds_of(patients)
    assert len({(p, int(f)) for p, f in zip(patients, folds, strict=True)}) == len(set(patients))
    sizes = np.bincount([folds[patients.index(p)] for p in set(patients)], minlength=FOLDS)
    assert sizes.max() - sizes.min() <= 1


def test_the_words_name_the_side_of_the_patient() -> None:
    assert said("Pneumonia.", [(0.1, 0.2, 0.2, 0.2)]).endswith("in the right lung.")
    assert said("Pneumonia.", [(0.7, 0.2, 0.2, 0.2)]).endswith("in the left lung.")
    assert said("P.", [(0.1, 0.2, 0.2, 0.2), (0.7, 0.2, 0.2, 0.2)]).endswith("both lungs.")


@pytest.mark.slow
def test_a_step_trains_the_processor_and_nothing_else(
    shipped: tuple[EclipModel, EvalTransform], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, transform = shipped
    for name, value in {"STEPS": 2, "BOXED": 2, "NORMAL": 1}.items():
        monkeypatch.setattr(region_steering, name, value)
    rng = np.random.default_rng(0)
    texts = torch.nn.functional.normalize(torch.randn(4, model.config.dim), dim=1)
    cases = Cases(
        ids=list("abcd"),
        patients=list("abcd"),
        images=rng.integers(0, 255, (4, 256, 256), dtype=np.uint8),
        heatmaps=rng.random((4, 256, 256), dtype=np.float32),
        texts=texts,
        normal=np.array([False, False, False, True]),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    processor = build_processor(IDENTITY)
    fit(processor, cases, np.arange(4), model=model, transform=transform)
    assert dict(processor.named_parameters())["gate"].item() != 0
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
