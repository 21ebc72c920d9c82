"""The training set as tensors, and which part of it a step sees.

Owns the order of images and the seeds. Both are functions of the seed and the step alone: a run
that resumes takes the steps it would have taken.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.eclip.model import EclipModel
from encoders.towers.base import Prepared
from encoders.towers.sentence_set import SentenceSet
from encoders.training.config import TrainSettings
from encoders.training.dataset import Study, TrainingDataError, frequent, image_pairs
from encoders.training.image_cache import load_images


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Everything a step needs, in memory; a pair is an image and the row of its study.

    Attributes:
        images: uint8 [F, side, side].
        study: int64 [F], row of the image's study.
        prepared: reports as the text tower reads them, one row a study.
        texts: float32 [S, D], fixed text vectors of norm 1 for the soft targets.
        labels: float32 [S, L], 0 or 1.
        label_names: the L findings.
    """

    images: NDArray[np.uint8]
    study: Tensor
    prepared: Prepared
    texts: Tensor
    labels: Tensor
    label_names: tuple[str, ...]

    def steps_per_epoch(self, batch_size: int) -> int:
        """Whole batches; the rest of an epoch is left out, another rest each epoch."""
        return len(self.study) // batch_size


def load_training_set(
    studies: Sequence[Study], *, settings: TrainSettings, model: EclipModel, cache: Path
) -> TrainingSet:
    """Decode the images and prepare the reports (minutes at the first time, then from the cache).

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
    labels = [study.labels | study.details for study in studies]
    names = frequent(labels, least=settings.least_label_count)
    if not names and _needs_labels(settings):
        raise TrainingDataError(
            f"no finding label is that of {settings.least_label_count} training studies; give "
            "labels, lower least_label_count, or learn from texts alone: targets.label_share = 0, "
            "optim.agreement_weight = 0, optim.label_weight = 0"
        )
    prepared = prepare_cached([study.text for study in studies], model=model, cache=cache)
    return TrainingSet(
        images=load_images([image for image, _ in pairs], side=settings.cache_side, cache=cache),
        study=torch.tensor([row for _, row in pairs]),
        prepared=prepared,
        texts=_target_vectors(studies, prepared, cache=cache),
        labels=label_matrix(labels, names),
        label_names=tuple(names),
    )


def _needs_labels(settings: TrainSettings) -> bool:
    """Whether some part of the loss compares findings: without any, all images would be alike."""
    soft = settings.targets.kind == "soft" and settings.targets.label_share > 0
    return soft or settings.optim.agreement_weight > 0 or settings.optim.label_weight > 0


def prepare_cached(texts: Sequence[str], *, model: EclipModel, cache: Path) -> Prepared:
    """`EclipModel.prepare_texts`, from the cache if the same texts were prepared before.

    What is prepared does not depend on what is trained (`encoders.towers.base.TextTower`).
    """
    settings = model.config.text_tower
    return _cached(texts, named=settings, prepare=model.prepare_texts, cache=cache)


def _target_vectors(studies: Sequence[Study], prepared: Prepared, *, cache: Path) -> Tensor:
    """Vectors of the frozen sentence encoder; a foreign text tower does not prepare them."""
    if "sentences" not in prepared:
        ours = SentenceSet(hidden=8)
        texts = [study.text for study in studies]
        named = {"kind": "sentence_set"}
        prepared = _cached(texts, named=named, prepare=ours.prepare, cache=cache)
    return mean_text_vectors(prepared)


def _cached(
    texts: Sequence[str],
    *,
    named: dict[str, Any],
    prepare: Callable[[Sequence[str]], Prepared],
    cache: Path,
) -> Prepared:
    """What ``prepare`` makes of the texts, from the cache if it was made before.

    Args:
        texts: any.
        named: what tells this preparation from others.
        prepare: texts to tensors.
        cache: folder.
    """
    key = json.dumps([named, list(texts)])
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


def label_matrix(labels: Sequence[frozenset[str]], names: Sequence[str]) -> Tensor:
    """float32 [S, L], 1 where a study has a label."""
    rows = [[float(name in study) for name in names] for study in labels]
    return torch.tensor(rows).reshape(len(labels), len(names))


def mean_text_vectors(prepared: Prepared) -> Tensor:
    """float32 [S, D] of norm 1: the mean of a report's frozen sentence vectors."""
    present = prepared["present"].unsqueeze(-1)
    mean = (prepared["sentences"] * present).sum(1) / present.sum(1)
    return torch.nn.functional.normalize(mean, dim=1)


def batch_rows(step: int, *, images: int, batch_size: int, seed: int) -> Tensor:
    """Rows of the images of a step: each epoch is another permutation."""
    epoch, at = divmod(step, images // batch_size)
    order = torch.randperm(images, generator=torch.Generator().manual_seed(_seed(seed, epoch)))
    return order[at * batch_size : (at + 1) * batch_size]


def step_seed(seed: int, *, step: int, rank: int = 0) -> int:
    """Seed of everything random in a step on one rank."""
    return _seed(seed, step, rank)


def _seed(*parts: int) -> int:
    """63 bits from numbers; nearby numbers give unrelated seeds."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
