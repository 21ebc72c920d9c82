"""Training data as tensors, and the cache of decoded images and prepared texts.

Decoded images are a memory-mapped uint8 array [images, side, side], so that decoding never slows a
step. Threads decode: Pillow, torch and the DICOM decoders' processes work outside the GIL.
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
from encoders.image_io import read_image
from encoders.images.raw_image import ImageReadError
from encoders.preprocess import resize_square
from encoders.towers.base import PreparedTexts
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

_CACHE_VERSION = 1
"""Increase it when the same images would be decoded differently."""

_BLOCK_SIZE = 512
"""Images between two progress notes, from which an interrupted decoding resumes."""


@dataclass(frozen=True, slots=True)
class TrainingTensors:
    """All studies with their images.

    Attributes:
        images: uint8 [F, side, side].
        study: int64 [F], row of the image's study.
        prepared: what the text tower reads, one row per study.
        texts: float32 [S, D], fixed text vectors of norm 1 for the contrastive targets.
        labels: float32 [S, L], 0 or 1.
        label_names: the L labels.
        complete: bool [S], whether a label of 0 means absent.
    """

    images: NDArray[np.uint8]
    study: Tensor
    prepared: PreparedTexts
    texts: Tensor
    labels: Tensor
    label_names: tuple[str, ...]
    complete: Tensor


@dataclass(frozen=True, slots=True)
class ExpertTensors:
    """All expert images.

    Attributes:
        images: uint8 [E, side, side].
        heatmaps: uint8 [E, side, side], 255 where the expert looked most.
        study: int64 [E], row of the image's study in `TrainingTensors`.
    """

    images: NDArray[np.uint8]
    heatmaps: NDArray[np.uint8]
    study: Tensor


def load_training_tensors(
    studies: Sequence[TrainingStudy], *, settings: TrainSettings, model: EclipModel, cache: Path
) -> TrainingTensors:
    """Decode the images and prepare the texts; takes minutes the first time.

    Raises:
        TrainingDataError: there are fewer images than one batch, or no labels although a loss needs
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
    label_targets = settings.targets.kind == "soft" and settings.targets.label_share > 0
    optim = settings.optim
    if not names and (label_targets or optim.agreement_weight or optim.label_weight):
        raise TrainingDataError(
            f"no finding label has {settings.min_label_count} training studies; give labels, lower "
            "min_label_count, or learn from texts alone: targets.label_share = 0, "
            "optim.agreement_weight = 0, optim.label_weight = 0"
        )
    table = [[name in study_labels for name in names] for study_labels in labels]
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
    """Decode the expert images and render their heatmaps; ``studies`` as in `TrainingTensors`.

    Raises:
        TrainingDataError: there are fewer than two, or one belongs to no training study.
    """
    if len(experts) < 2:
        raise TrainingDataError(
            f"{len(experts)} expert images; give at least 2, or remove [expert] from the settings"
        )
    rows = {study.study_id: row for row, study in enumerate(studies)}
    if unknown := [image.study_id for image in experts if image.study_id not in rows]:
        raise TrainingDataError(
            f"{len(unknown)} expert images belong to no training study, {unknown[0]} first; their "
            "reports must be in [data]"
        )
    heatmaps = np.stack(
        [render_heatmap(image.annotation, height=side, width=side) for image in experts]
    )
    return ExpertTensors(
        images=load_images([image.path for image in experts], side=side, cache=cache),
        heatmaps=(heatmaps * 255).round().astype(np.uint8),
        study=torch.tensor([rows[image.study_id] for image in experts]),
    )


def prepare_cached(
    texts: Sequence[str],
    *,
    prepare: Callable[[Sequence[str]], PreparedTexts],
    settings: dict[str, Any],
    cache: Path,
) -> PreparedTexts:
    """The result of a text tower's ``prepare``, cached by texts and tower ``settings``."""
    key = json.dumps([settings, list(texts)])
    target = cache / f"texts-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if target.exists():
        return load_file(target)
    with torch.random.fork_rng(devices=[]):  # as with a cache hit, no random number is used up
        prepared = prepare(texts)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}-{os.getpid()}")
    save_file({name: value.contiguous() for name, value in prepared.items()}, partial)
    partial.replace(target)
    return prepared


def _target_vectors(texts: Sequence[str], prepared: PreparedTexts, *, cache: Path) -> Tensor:
    """float32 [S, D] of norm 1: means of frozen sentence vectors, whatever the text tower is."""
    if "sentences" not in prepared:
        tower = {"kind": "sentence_set"}
        prepare = SentenceSet(hidden=8).prepare
        prepared = prepare_cached(texts, prepare=prepare, settings=tower, cache=cache)
    present = prepared["present"].unsqueeze(-1)
    mean = (prepared["sentences"] * present).sum(1) / present.sum(1)
    return torch.nn.functional.normalize(mean, dim=1)


def load_images(paths: Sequence[Path], *, side: int, cache: Path) -> NDArray[np.uint8]:
    """Images squashed to squares, uint8 [len(paths), side, side], 255 is white.

    Decoded images are cached by the list of paths.

    Raises:
        TrainingDataError: images cannot be read; the message names the first ones and why. Blocks
            decoded before them are kept for the next try.
    """
    if not paths:
        return np.empty((0, side, side), dtype=np.uint8)
    names = "\n".join(str(path) for path in paths)
    key = hashlib.sha256(f"{_CACHE_VERSION} {side}\n{names}".encode()).hexdigest()[:16]
    target = cache / f"images-{key}.npy"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):  # one of several ranks decodes, others wait
            if not target.exists():
                _decode_all(paths, side=side, target=target)
    images: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    return images


def _decode_all(paths: Sequence[Path], *, side: int, target: Path) -> None:
    """Decode into a partial file, renamed at the end; resumes an interrupted decoding."""
    partial, progress = target.with_name(f".{target.name}"), target.with_suffix(".done")
    images, done = _open_partial(partial, progress, shape=(len(paths), side, side))
    failed: list[str] = []

    def decode(row: int) -> None:
        try:
            pixels = resize_square(torch.from_numpy(read_image(paths[row]).pixels), side)
        except ImageReadError as error:
            failed.append(f"{paths[row]}: {error}")
        else:
            images[row] = pixels.mul(255).round().clamp(0, 255).byte().numpy()

    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for start in range(done, len(paths), _BLOCK_SIZE):
            stop = min(start + _BLOCK_SIZE, len(paths))
            list(pool.map(decode, range(start, stop)))
            _log.info("decoded %d of %d images", stop, len(paths))
            if not failed:
                images.flush()
                progress.write_text(str(stop), encoding="ascii")
    if failed:
        examples = "\n".join(sorted(failed)[:5])
        raise TrainingDataError(
            f"{len(failed)} of {len(paths)} images cannot be read; repair them or take them out of "
            f"the data. The first:\n{examples}"
        )
    partial.replace(target)
    progress.unlink(missing_ok=True)


def _open_partial(
    partial: Path, progress: Path, *, shape: tuple[int, int, int]
) -> tuple["np.memmap[tuple[int, int, int], np.dtype[np.uint8]]", int]:
    """The partial array, and how many images it has; a new one if it cannot be resumed."""
    try:
        done = int(progress.read_text(encoding="ascii"))
        images = np.lib.format.open_memmap(partial, mode="r+")
        if images.shape == shape and images.dtype == np.uint8:
            return images, done
    except (OSError, ValueError):
        pass
    return np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape), 0
