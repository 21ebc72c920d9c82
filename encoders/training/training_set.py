"""The training set as tensors in memory, and the cache of what is decoded and prepared for it.

An image is a row of a uint8 array [images, side, side] that is mapped into memory: 64 KiB at 256
pixels, so that decoding never slows a step. Threads decode: Pillow, torch and the DICOM decoders'
own processes do their work outside the interpreter's lock. A decoding that is cut resumes.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.annotations import render_heatmap
from encoders.eclip.model import EclipModel
from encoders.images.image_io import read_image
from encoders.images.raw_image import ImageReadError
from encoders.preprocess import resize_square
from encoders.towers.base import Prepared
from encoders.towers.sentence_set import SentenceSet
from encoders.training.config import TrainSettings
from encoders.training.dataset import (
    ExpertImage,
    TrainingDataError,
    TrainingStudy,
    frequent_labels,
    image_pairs,
)

_log = logging.getLogger(__name__)

_LAYOUT = 1
"""Goes up when the content of the image cache would change for the same images."""

_AT_ONCE = 512
"""Images between two notes of how far a decoding came."""


@dataclass(frozen=True, slots=True)
class TrainingTensors:
    """Everything a step needs; a pair is an image and the row of its study.

    Attributes:
        images: uint8 [F, side, side].
        study: int64 [F], row of the image's study.
        prepared: reports as the text tower reads them, one row a study.
        texts: float32 [S, D], fixed text vectors of norm 1 for the soft targets.
        labels: float32 [S, L], 0 or 1.
        label_names: the L findings.
        complete: bool [S], whether a label that is 0 is known not to be there.
    """

    images: NDArray[np.uint8]
    study: Tensor
    prepared: Prepared
    texts: Tensor
    labels: Tensor
    label_names: tuple[str, ...]
    complete: Tensor


@dataclass(frozen=True, slots=True)
class ExpertTensors:
    """Annotated images of a training set.

    Attributes:
        images: uint8 [E, side, side].
        heatmaps: uint8 [E, side, side], 255 where the expert looked most.
        study: int64 [E], row of the image's study in the training set.
    """

    images: NDArray[np.uint8]
    heatmaps: NDArray[np.uint8]
    study: Tensor


def load_training_tensors(
    studies: Sequence[TrainingStudy], *, settings: TrainSettings, model: EclipModel, cache: Path
) -> TrainingTensors:
    """Decode the images and prepare the reports (minutes the first time, then from the cache).

    Raises:
        TrainingDataError: there are fewer images than one batch, or no labels where the loss needs
            them.
    """
    pairs = list(image_pairs(studies, laterals=settings.laterals))
    if len(pairs) < settings.optim.batch_size:
        raise TrainingDataError(
            f"{len(pairs)} images are fewer than one batch of {settings.optim.batch_size}; lower "
            "optim.batch_size"
        )
    labels = [study.labels | study.fine_labels for study in studies]
    names = frequent_labels(labels, min_count=settings.min_label_count)
    # What compares findings: without any, all images would be alike.
    soft = settings.targets.kind == "soft" and settings.targets.label_share > 0
    weights = settings.optim.agreement_weight, settings.optim.label_weight
    if not names and (soft or any(weights)):
        raise TrainingDataError(
            f"no finding label has {settings.min_label_count} training studies; give labels, lower "
            "min_label_count, or learn from texts alone: targets.label_share = 0, "
            "optim.agreement_weight = 0, optim.label_weight = 0"
        )
    table = [[name in study for name in names] for study in labels]
    texts = [study.text for study in studies]
    prepared = prepare_cached(
        texts, prepare=model.prepare_texts, settings=model.config.text_tower, cache=cache
    )
    return TrainingTensors(
        images=load_images([image for image, _ in pairs], side=settings.cache_side, cache=cache),
        study=torch.tensor([row for _, row in pairs]),
        prepared=prepared,
        texts=_target_vectors(texts, prepared, cache=cache),
        labels=torch.tensor(table, dtype=torch.float32).reshape(len(studies), len(names)),
        label_names=tuple(names),
        complete=torch.tensor([study.labels_complete for study in studies]),
    )


def load_expert_tensors(
    experts: Sequence[ExpertImage], *, studies: Sequence[TrainingStudy], side: int, cache: Path
) -> ExpertTensors:
    """Decode the annotated images and render their heatmaps.

    ``studies`` are those of the training set, in its order.

    Raises:
        TrainingDataError: there are fewer than two, or one belongs to no training study.
    """
    if len(experts) < 2:
        raise TrainingDataError(
            f"{len(experts)} expert images; give at least 2, or no [expert] in the settings"
        )
    rows = {study.study_id: row for row, study in enumerate(studies)}
    if strangers := [image.study_id for image in experts if image.study_id not in rows]:
        raise TrainingDataError(
            f"{len(strangers)} expert images belong to no training study, {strangers[0]} first; "
            "their reports must be in the collection"
        )
    heat = np.stack(
        [render_heatmap(image.annotation, height=side, width=side) for image in experts]
    )
    return ExpertTensors(
        images=load_images([image.path for image in experts], side=side, cache=cache),
        heatmaps=(heat * 255).round().astype(np.uint8),
        study=torch.tensor([rows[image.study_id] for image in experts]),
    )


def prepare_cached(
    texts: Sequence[str],
    *,
    prepare: Callable[[Sequence[str]], Prepared],
    settings: dict[str, Any],
    cache: Path,
) -> Prepared:
    """What a text tower makes of the texts, from the cache if it was made before.

    It does not depend on what is trained (`encoders.towers.base.TextTower`), only on ``settings``.
    """
    key = json.dumps([settings, list(texts)])
    target = cache / f"texts-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if target.exists():
        return load_file(target)
    with torch.random.fork_rng(devices=[]):  # building a frozen part draws; a cache hit does not
        prepared = prepare(texts)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.stem}-{os.getpid()}")
    save_file({name: value.contiguous() for name, value in prepared.items()}, beside)
    beside.replace(target)
    return prepared


def _target_vectors(texts: Sequence[str], prepared: Prepared, *, cache: Path) -> Tensor:
    """float32 [S, D] of norm 1: the mean of a report's frozen sentence vectors.

    They are those of our sentence encoder, whatever the text tower is.
    """
    if "sentences" not in prepared:
        ours = {"kind": "sentence_set"}
        prepare = SentenceSet(hidden=8).prepare
        prepared = prepare_cached(texts, prepare=prepare, settings=ours, cache=cache)
    present = prepared["present"].unsqueeze(-1)
    mean = (prepared["sentences"] * present).sum(1) / present.sum(1)
    return torch.nn.functional.normalize(mean, dim=1)


def load_images(paths: Sequence[Path], *, side: int, cache: Path) -> NDArray[np.uint8]:
    """Images uint8 [len(paths), side, side], squashed to a square, 255 is white.

    The decoded copy lies in ``cache``; another list of images makes another file.

    Raises:
        TrainingDataError: images cannot be read; the message names the first ones and why. Blocks
            decoded before the first of them are kept: repaired, the same images go on from there.
    """
    if not paths:
        return np.empty((0, side, side), dtype=np.uint8)
    names = "\n".join(str(path) for path in paths)
    key = hashlib.sha256(f"{_LAYOUT} {side}\n{names}".encode()).hexdigest()[:16]
    target = cache / f"images-{key}.npy"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):  # of several ranks one decodes, the rest wait
            if not target.exists():
                _decode_all(paths, side=side, target=target)
    images: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    return images


def _decode_all(paths: Sequence[Path], *, side: int, target: Path) -> None:
    """Decode beside the target and rename: a cut leaves no half file under the right name."""
    beside, note = target.with_name(f".{target.name}"), target.with_suffix(".done")
    images, done = _open_half(beside, note, shape=(len(paths), side, side))
    failed: list[str] = []

    def decode(row: int) -> None:
        try:
            pixels = resize_square(torch.from_numpy(read_image(paths[row]).pixels), side)
        except ImageReadError as error:
            failed.append(f"{paths[row]}: {error}")
        else:
            images[row] = pixels.mul(255).round().clamp(0, 255).byte().numpy()

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for start in range(done, len(paths), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(paths))
            list(pool.map(decode, range(start, stop)))
            _log.info("decoded %d of %d images", stop, len(paths))
            if not failed:
                images.flush()
                note.write_text(str(stop), encoding="ascii")
    if failed:
        shown = "\n".join(sorted(failed)[:5])
        raise TrainingDataError(
            f"{len(failed)} of {len(paths)} images cannot be read; repair them or take them out of "
            f"the data. The first:\n{shown}"
        )
    beside.replace(target)
    note.unlink(missing_ok=True)


def _open_half(
    beside: Path, note: Path, *, shape: tuple[int, int, int]
) -> tuple["np.memmap[tuple[int, int, int], np.dtype[np.uint8]]", int]:
    """The array that is being written, and how many images are in it already."""
    try:
        done = int(note.read_text(encoding="ascii"))
        images = np.lib.format.open_memmap(beside, mode="r+")
        if images.shape == shape and images.dtype == np.uint8:
            return images, done
    except (OSError, ValueError):
        pass  # nothing there, or cut before the first note
    return np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=shape), 0
