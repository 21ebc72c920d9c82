"""Labelled images without reports: reading, tensors, losses, and a run with them."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.annotations import bounding_box, box_outline, fill_outlines
from encoders.eclip.encoder import load_encoder
from encoders.preprocess import EvalTransform
from encoders.training.augment import RankRng
from encoders.training.config import AugmentSettings, TrainSettings
from encoders.training.dataset import Dataset, Split, TrainingDataError, TrainingStudy
from encoders.training.labelled import (
    draw_labelled_batch,
    label_loss,
    load_labelled_tensors,
    map_losses,
)
from encoders.training.sources.nih_expert import is_held_back, read_nih_expert
from encoders.training.sources.settings import NihExpert
from encoders.training.train import train

BOX = {"label": "Effusion", "xyxy": [102.4, 716.8, 307.2, 921.6]}
POLYGON = {
    "label": "Consolidation",
    "xyxy": [512, 102.4, 716.8, 307.2],
    "polygon": [[512, 102.4], [716.8, 102.4], [716.8, 307.2]],
}


def chestx_det(*marks: dict[str, Any]) -> dict[str, Any]:
    classes = [mark["label"] for mark in marks]
    return {"source": "chestx-det", "classes": classes, "boxes": list(marks)}


def write_folder(folder: Path, readings: list[list[dict[str, Any]]]) -> NihExpert:
    """Write one patient with one image for each list of readings."""
    (folder / "images").mkdir(parents=True)
    generator = np.random.default_rng(0)
    lines = []
    for number, found in enumerate(readings):
        pixels = generator.integers(0, 255, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        line = {"id": f"n{number}", "patient_id": str(number), "image": f"images/{number}.png"}
        lines.append(line | {"view": "AP", "nih_labels": ["Effusion"], "readings": found})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "readings.jsonl").write_text(text, encoding="utf-8")
    return NihExpert(path=folder, val_share=0)


def test_drawings_become_the_text(tmp_path: Path) -> None:
    studies, experts, _ = read_nih_expert(
        write_folder(tmp_path, [[chestx_det(BOX, POLYGON, POLYGON)], [chestx_det()]])
    )
    assert [study.text for study in studies] == [
        "Right pleural effusion. Consolidation in the left upper zone."
    ]
    assert studies[0].labels >= {"Pleural Effusion", "Consolidation"}
    assert "Pleural Effusion/right" in studies[0].fine_labels
    assert not studies[0].labels_complete
    assert [image.study_id for image in experts] == ["nih-n0"]


def test_no_box_means_absent_only_for_findings_a_source_looked_for(tmp_path: Path) -> None:
    rsna = {"source": "rsna-2018", "classes": ["Normal"], "boxes": []}
    nih = {"source": "nih-bbox-2017", "classes": ["Effusion"], "boxes": [BOX]}
    google = {"source": "google-2019", "classes": {"Fracture": "NO", "Mass": ""}, "boxes": []}
    by_det, by_rsna, by_nih, by_google = read_nih_expert(
        write_folder(tmp_path, [[chestx_det(BOX)], [rsna], [nih], [google]])
    )[2]
    assert by_det.outlines["Pneumothorax"] == ()
    assert len(by_det.outlines["Effusion"]) == 1
    assert "Lung Opacity" not in by_det.outlines
    assert by_rsna.outlines == {"Lung Opacity": ()}
    assert by_rsna.labels["rsna-2018/Normal"]
    assert "chestx-det/Effusion" not in by_rsna.labels
    assert set(by_nih.outlines) == {"Effusion"}
    assert by_google.labels["google-2019/Fracture"] is False
    assert "google-2019/Mass" not in by_google.labels


def test_held_back_patients_are_not_trained_on(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, [[chestx_det(BOX)]] * 40)
    studies, experts, labelled = read_nih_expert(folder.model_copy(update={"val_share": 0.3}))
    held = {image.image_id for image in labelled if image.split is Split.VAL}
    assert 0 < len(held) < 40
    assert held == {f"n{n}" for n in range(40) if is_held_back(str(n).zfill(8), share=0.3)}
    assert len(studies) == len(experts) == 40 - len(held)


def test_a_malformed_reading_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, [[chestx_det({"label": "Effusion", "xyxy": [1, 2]})]])
    with pytest.raises(TrainingDataError, match=r"readings\.jsonl line 1: a box"):
        read_nih_expert(folder)


def test_outlines_are_filled_and_bounded() -> None:
    box = box_outline(0.25, 0.5, 0.5, 1.0)
    assert bounding_box(box) == (0.25, 0.5, 0.25, 0.5)
    cover = fill_outlines([box], side=8)
    assert cover[5, 2] == 255
    assert cover[:3].max() == 0


def test_unknown_labels_are_ignored_by_the_loss() -> None:
    odds = torch.tensor([[0.0, 5.0]], requires_grad=True)
    loss = label_loss(odds, torch.tensor([[1.0, math.nan]]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert odds.grad is not None
    assert odds.grad[0, 1] == 0
    assert label_loss(odds, torch.full((1, 2), math.nan)).item() == 0


def test_map_losses_prefer_the_drawn_place_and_ignore_unknown_maps() -> None:
    cover = torch.zeros(1, 2, 4, 4)
    cover[0, 0, 1, 2] = 1
    known = torch.tensor([[1.0, 0.0]])
    good, bad = torch.full((2, 1, 2, 4, 4), -4.0).unbind()
    good[0, 0, 1, 2] = bad[0, 0, 3, 0] = 4.0
    for better, worse in zip(
        map_losses(good, cover, known), map_losses(bad, cover, known), strict=True
    ):
        assert better < worse
    other = good.clone()
    other[0, 1] = 3.0
    assert map_losses(other, cover, known) == map_losses(good, cover, known)


def test_masks_are_augmented_like_their_images(tmp_path: Path) -> None:
    labelled = read_nih_expert(write_folder(tmp_path, [[chestx_det(BOX)]] * 3))[2]
    data = load_labelled_tensors(
        labelled, findings=("Effusion",), side=64, cache=tmp_path / "cache"
    )
    no_augmentation = AugmentSettings(
        smallest_crop=1, degrees=0, aspect=0, gamma=0, contrast=0, brightness=0
    )
    batch = draw_labelled_batch(
        data,
        np.array([2, 0]),
        augment=no_augmentation,
        transform=EvalTransform(size=64),
        rng=RankRng(torch.Generator().manual_seed(0)),
    )
    assert batch.pixels.shape == (2, 3, 64, 64)
    assert batch.coverage.shape == (2, 1, 4, 4)
    assert int(batch.coverage[0, 0].argmax()) in {8, 9, 12, 13}  # left and low, as drawn
    assert batch.known.tolist() == [[1.0], [1.0]]


@pytest.mark.slow
def test_a_run_with_pretraining_experts_and_maps_resumes(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "nih", [[chestx_det(BOX)], [chestx_det()]] * 4)
    studies, experts, labelled = read_nih_expert(source)
    reported = tuple(
        TrainingStudy(
            study_id=f"s{number}",
            patient_id=f"s{number}",
            frontals=(labelled[number].path,),
            laterals=(),
            text="The heart is enlarged." if number % 2 else "Clear lungs.",
            labels=frozenset({"Cardiomegaly"} if number % 2 else {"normal"}),
            split=Split.TRAIN,
        )
        for number in range(8)
    )
    dataset = Dataset((*reported, *studies), (), {}, tuple(experts), tuple(labelled))
    settings = TrainSettings.model_validate(
        {
            "size": 64,
            "small_size": 32,
            "small_share": 0.5,
            "cache_side": 64,
            "min_label_count": 1,
            "model": {"dim": 8, "start": "random"},
            "optim": {"epochs": 2, "batch_size": 6},
            "expert": {"curriculum": {"cold": 0, "warm": 0, "cool": 0, "first": 1, "last": 1}},
            "labelled": {"batch_size": 4, "findings": ["Effusion", "Consolidation"]},
            "pretrain": {"epochs": 1, "batch_size": 4, "size": 32},
        }
    )
    out, cache = tmp_path / "run", tmp_path / "cache"
    folder = train(settings, dataset=dataset, out=out, cache=cache)
    first = (folder / "model.safetensors").read_bytes()
    assert load_encoder(folder).findings == ("Effusion", "Consolidation")
    assert train(settings, dataset=dataset, out=out, cache=cache) == folder
    assert (folder / "model.safetensors").read_bytes() == first

    def cut_after_pretraining(step: int, steps: int, _: float) -> None:
        if steps > 2:
            raise KeyboardInterrupt

    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        train(settings, dataset=dataset, out=cut, cache=cache, on_step=cut_after_pretraining)
    other_settings = settings.model_copy(update={"augment": AugmentSettings(degrees=20)})
    with pytest.raises(TrainingDataError, match="other settings or data"):
        train(other_settings, dataset=dataset, out=cut, cache=cache)
    relabelled = [
        replace(example, labels=dict.fromkeys(example.labels, True)) for example in labelled
    ]
    other = replace(dataset, labelled=tuple(relabelled))
    with pytest.raises(TrainingDataError, match="other settings or data"):
        train(settings, dataset=other, out=cut, cache=cache)
    alone = settings.model_copy(update={"pretrain": None, "checkpoint_every": 1})
    interrupted = {"out": tmp_path / "interrupted", "cache": cache}
    with pytest.raises(KeyboardInterrupt):
        train(alone, dataset=dataset, on_step=cut_after_pretraining, **interrupted)
    with pytest.raises(TrainingDataError, match="other settings or data"):
        train(alone, dataset=other, **interrupted)
    resumed = train(settings, dataset=dataset, out=cut, cache=cache)
    assert (resumed / "model.safetensors").read_bytes() == first
