"""Parts of a training run: data, order, augmentation, settings, checkpoints, metrics."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoders.checkout import current_commit
from encoders.training.augment import RankRng, augment, draw_affine, warp
from encoders.training.config import AugmentSettings, TrainSettings, read_settings
from encoders.training.dataloader import batch_rows, step_seed
from encoders.training.dataset import (
    Split,
    TrainingDataError,
    TrainingStudy,
    build_dataset,
    frequent_labels,
    image_pairs,
)
from encoders.training.run_folder import CHECKPOINT, CURVES, RunFolder, fingerprint
from encoders.training.sources.load import read_openi
from encoders.training.tensors import load_images

CONFIGS = Path(__file__).parents[1] / "configs" / "train"


def study(number: int, text: str, split: Split, **changes: Any) -> TrainingStudy:
    facts: dict[str, Any] = {
        "study_id": f"s{number}",
        "patient_id": f"p{number}",
        "frontals": (Path(f"{number}-f.png"),),
        "laterals": (Path(f"{number}-l.png"),),
        "text": text,
        "labels": frozenset({"Cardiomegaly"} if number % 2 else {"normal"}),
        "split": split,
    }
    return TrainingStudy(**(facts | changes))


# --- data


def test_training_texts_that_occur_in_val_are_left_out() -> None:
    studies = [
        study(1, "Clear lungs.", Split.TRAIN),
        study(2, "clear  LUNGS.", Split.TRAIN),
        study(3, "Large heart.", Split.TRAIN),
        study(4, "Clear lungs.", Split.VAL),
    ]
    cleaned = build_dataset(studies)
    assert [kept.study_id for kept in cleaned.train] == ["s3"]
    assert [kept.study_id for kept in cleaned.val] == ["s4"]
    assert cleaned.left_out["training text identical to a val text"] == 2


def test_a_patient_in_two_splits_is_refused() -> None:
    studies = [
        study(1, "Clear.", Split.TRAIN, patient_id="p"),
        study(2, "Large.", Split.VAL, patient_id="p"),
    ]
    with pytest.raises(TrainingDataError, match="1 patients are in train and val, p first"):
        build_dataset(studies)


def test_a_study_without_text_or_image_is_counted_not_kept() -> None:
    studies = [
        study(1, "", Split.TRAIN),
        study(2, "Clear.", Split.TRAIN, frontals=(), laterals=()),
        study(3, "Large.", Split.TRAIN, frontals=()),
        study(4, "Wide.", Split.VAL, frontals=()),
    ]
    cleaned = build_dataset(studies)
    assert [kept.study_id for kept in cleaned.train] == ["s3"]
    assert cleaned.val == ()
    assert (cleaned.left_out["no text"], cleaned.left_out["no image"]) == (1, 2)


def test_every_image_is_paired_with_its_study() -> None:
    studies = [study(1, "a", Split.TRAIN), study(2, "b", Split.TRAIN, laterals=())]
    assert [(str(image), row) for image, row in image_pairs(studies, laterals=True)] == [
        ("1-f.png", 0),
        ("1-l.png", 0),
        ("2-f.png", 1),
    ]
    assert [row for _, row in image_pairs(studies, laterals=False)] == [0, 1]


def test_rare_labels_are_not_learned() -> None:
    labels = [study(number, "x", Split.TRAIN).labels for number in range(5)]
    assert frequent_labels(labels, min_count=2) == ["normal", "Cardiomegaly"]
    assert frequent_labels(labels, min_count=3) == ["normal"]


def test_rotated_images_of_openi_are_left_out(tmp_path: Path) -> None:
    row = {
        "id": "CXR994",
        "frontal": ["images/CXR994_IM-2478-1001.jpg", "images/CXR994_IM-2478-2001.jpg"],
        "lateral": [],
        "findings": "",
        "impression": "Clear.",
        "labels": {
            "problems": ["Opacity ", "No Indexing"],
            "mesh_major": ["Opacity/lung/left", "No Indexing"],
        },
        "split": "extra",
    }
    (tmp_path / "studies.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = read_openi(tmp_path)
    assert read.frontals == (tmp_path / "images/CXR994_IM-2478-2001.jpg",)
    assert read.fine_labels == {"Opacity/lung", "Opacity/left"}
    assert (read.text, read.labels, read.split) == ("Clear.", {"Opacity"}, Split.TRAIN)


@pytest.mark.parametrize("content", [None, "{}\n", "not json\n"])
def test_a_missing_or_malformed_openi_table_is_explained(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "studies.jsonl").write_text(content)
    with pytest.raises(TrainingDataError, match=r"CXR_DATA|line 1"):
        read_openi(tmp_path)


def test_images_are_decoded_once(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    Image.fromarray(pixels).save(tmp_path / "image.png")
    first = load_images([tmp_path / "image.png"], side=64, cache=tmp_path / "cache")
    (tmp_path / "image.png").unlink()
    again = load_images([tmp_path / "image.png"], side=64, cache=tmp_path / "cache")
    assert first.shape == (1, 64, 64)
    assert np.array_equal(first, again)
    assert np.abs(first[0, 20].astype(int) - np.arange(64)).max() <= 1


# --- order and randomness


@settings(max_examples=50)
@given(images=st.integers(4, 60), batch=st.integers(1, 4), seed=st.integers(0, 99))
def test_an_epoch_shows_no_image_twice(images: int, batch: int, seed: int) -> None:
    steps = images // batch
    rows = [batch_rows(step, images=images, batch_size=batch, seed=seed) for step in range(steps)]
    assert len(torch.cat(rows).unique()) == steps * batch
    again = batch_rows(0, images=images, batch_size=batch, seed=seed)
    assert torch.equal(rows[0], again)


def test_epochs_and_seeds_give_different_orders() -> None:
    orders = [
        batch_rows(step, images=50, batch_size=50, seed=seed) for step in (0, 1) for seed in (0, 1)
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert len({step_seed(seed, step=step) for seed in range(9) for step in range(9)}) == 81
    assert step_seed(0, step=1, rank=0) != step_seed(0, step=1, rank=1)


# --- augmentation

NO_AUGMENTATION = AugmentSettings(
    smallest_crop=1, degrees=0, aspect=0, gamma=0, contrast=0, brightness=0
)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_augmented_images_stay_images(seed: int) -> None:
    torch.manual_seed(seed)
    images = torch.rand(3, 40, 40)
    augmented = augment(images, AugmentSettings(), size=32, rng=RankRng())
    assert augmented.shape == (3, 32, 32)
    assert augmented.min() >= 0
    assert augmented.max() <= 1


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_an_image_is_never_mirrored(seed: int) -> None:
    """The map keeps left on the left and up on top: its determinant and diagonal are positive."""
    torch.manual_seed(seed)
    maps = draw_affine(64, AugmentSettings(), rng=RankRng())
    assert (maps[:, :, :2].det() > 0).all()
    assert (maps[:, 0, 0] > 0).all()
    assert (maps[:, 1, 1] > 0).all()


def test_a_heatmap_moves_with_its_image() -> None:
    torch.manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    spot = torch.exp(-((rows - 30) ** 2 + (columns - 25) ** 2) / 30).expand(8, 64, 64)
    maps = draw_affine(8, AugmentSettings(), rng=RankRng())
    image, heatmap = warp(spot, maps, size=48), warp(spot**2, maps, size=48)
    assert torch.equal(image.flatten(1).argmax(1), heatmap.flatten(1).argmax(1))
    assert len(image.flatten(1).argmax(1).unique()) > 4  # and it does move


def test_the_identity_map_only_resizes() -> None:
    identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    image = torch.rand(1, 32, 32)
    torch.testing.assert_close(warp(image, identity, size=32), image)
    torch.testing.assert_close(
        augment(torch.full((1, 32, 32), 0.25), NO_AUGMENTATION, size=32, rng=RankRng())[
            :, 4:-4, 4:-4
        ],
        torch.full((1, 24, 24), 0.25),
    )


# --- settings, checkpoints, metrics


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("eclip*.toml")), ids=lambda path: path.stem)
def test_the_recipes_can_be_read(path: Path) -> None:
    assert read_settings(path).name


@pytest.mark.parametrize(
    ("text", "message"),
    [("epochs = 3", "epochs"), ("[optim]\nlr = -1", "greater than 0"), ("[", "cannot use")],
)
def test_an_invalid_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(TrainingDataError, match=message):
        read_settings(tmp_path / "x.toml")


def test_only_a_checkout_that_has_the_file_names_its_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        me = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        command = ["git", "-C", str(tmp_path), *me, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    ours, installed = tmp_path / "ours.py", tmp_path / "site-packages" / "theirs.py"
    installed.parent.mkdir()
    for file in (ours, installed):
        file.touch()
    assert current_commit(ours) is None
    git("init")
    git("add", "ours.py")
    git("commit", "-m", "first")
    assert current_commit(ours) == git("rev-parse", "HEAD")
    assert current_commit(installed) is None
    ours.write_text("changed")
    assert current_commit(ours) == git("rev-parse", "HEAD") + "+"


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, fingerprint="a")
    assert folder.load({}) == 0
    folder.save(3, {})
    assert folder.load({}) == 3
    with pytest.raises(TrainingDataError, match="other settings or data"):
        RunFolder(tmp_path, fingerprint="b").load({})


def test_a_checkpoint_that_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"fingerprint": "a", "trap": Path("x")}, tmp_path / CHECKPOINT)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        RunFolder(tmp_path, fingerprint="a").load({})


def test_the_fingerprint_follows_the_settings() -> None:
    settings_used = TrainSettings()
    other = settings_used.model_copy(update={"seed": 1})
    assert fingerprint(settings_used.model_dump()) == fingerprint(TrainSettings().model_dump())
    assert fingerprint(settings_used.model_dump()) != fingerprint(other.model_dump())


def test_metrics_after_the_checkpoint_and_partial_lines_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, fingerprint="a")
    for step in (1, 2, 3):
        folder.append_metrics(step, {"loss": 1 / step})
    with (tmp_path / "metrics.csv").open("a") as stream:
        stream.write("4,lo")
    folder.trim_metrics(2)
    folder.append_metrics(3, {"loss": 0.5})
    lines = (tmp_path / "metrics.csv").read_text().split()
    assert lines == ["step,name,value", "1,loss,1", "2,loss,0.5", "3,loss,0.5"]


def test_the_curves_are_reproducible(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='not installed: pip install "cxr-rag[plots]"')
    folder = RunFolder(tmp_path, fingerprint="a")
    for step in range(1, 121):
        folder.append_metrics(step, {"loss": 10 / step, "never finite": float("nan")})
    pictures = []
    for _ in range(2):
        folder.write_curves()
        pictures.append((tmp_path / CURVES).read_bytes())
    assert pictures[0] == pictures[1]
    ElementTree.fromstring(pictures[0])  # noqa: S314 - our own file
    for name in ("loss", "never finite"):
        assert name.encode() in pictures[0]


def test_without_matplotlib_the_log_says_how_to_get_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    folder = RunFolder(tmp_path, fingerprint="a")
    folder.append_metrics(1, {"loss": 1.0})
    with caplog.at_level(logging.INFO):
        folder.write_curves()
    assert "cxr-rag[plots]" in caplog.text
    assert not (tmp_path / CURVES).exists()
