"""Prepares the batch of each step, ahead of time.

Order, augmentation, expert pairs and mixup are functions of the seed and the step: neither the
number of threads or ranks nor a resume changes a bit.

Threads, not torch's DataLoader: images are memory-mapped and torch releases the GIL, so copying
batches between processes would gain nothing.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders.machine import map_ahead
from encoders.preprocess import EvalTransform
from encoders.towers.base import PreparedTexts
from encoders.training.augment import RankRng, augment, augment_with_affine, warp
from encoders.training.config import TrainSettings
from encoders.training.labelled import LabelledBatch, LabelledTensors, draw_labelled_batch
from encoders.training.tensors import ExpertTensors, TrainingTensors

_CURRICULUM, _EXPERT_ROWS, _MIXUP, _SHUFFLED_ROWS, _LABELLED_ROWS = -1, -2, -3, -4, -5
"""Streams of random numbers that all ranks share; used in place of a rank."""


class Pairs(NamedTuple):
    """Normalised images float32 [N, channels, H, W] and rows of `TrainingTensors` for them."""

    pixels: Tensor
    prepared: PreparedTexts
    texts: Tensor
    labels: Tensor
    complete: Tensor


class ExpertPairs(NamedTuple):
    """Annotated images before mixup.

    Attributes:
        heatmaps: float32 [E, H, W] in [0, 1], augmented like the images.
        image_weight: λ of the mixup: the image's weight; the expert image has the rest.
    """

    pairs: Pairs
    heatmaps: Tensor
    image_weight: float


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The input of one step.

    Attributes:
        expert: None in steps without expert pairs.
        labelled: None without ``[labelled]`` in the settings.
        priming: weight of the priming loss.
        rng_state: of the generator after augmentation; dropout continues from it.
    """

    main: Pairs
    expert: ExpertPairs | None
    labelled: LabelledBatch | None
    priming: float
    rng_state: Tensor


class BatchLoader:
    """Makes the batches of a run; a rank gets the rows ``rank :: ranks`` of each."""

    def __init__(
        self,
        settings: TrainSettings,
        *,
        data: TrainingTensors,
        experts: ExpertTensors | None,
        transform: EvalTransform,
        steps: int,
        labelled: LabelledTensors | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._settings = settings
        self._data = data
        self._experts = experts
        self._labelled = labelled
        self._transform = transform
        self._small_transform = replace(transform, size=settings.small_size or transform.size)
        self._steps = steps
        self._rank, self._ranks = rank, ranks

    def batches(self, first: int = 0) -> Iterator[StepBatch]:
        """Batches from step ``first`` to the end, prepared ahead by ``num_workers`` threads."""
        workers = self._settings.num_workers
        return map_ahead(self.make, range(first, self._steps), threads=workers, ahead=workers)

    def make(self, step: int) -> StepBatch:
        """The batch of a step."""
        generator = torch.Generator().manual_seed(step_seed(self._settings.seed, step=step))
        rng = RankRng(generator, self._rank, self._ranks)
        main = self._main_pairs(step, rng)
        expert = self.expert_pairs(step, rng) if self._is_expert_step(step) else None
        labelled = self._labelled_batch(step, rng)
        return StepBatch(main, expert, labelled, self._priming_weight(step), generator.get_state())

    def _shared_rng(self, step: int, stream: int) -> np.random.Generator:
        return np.random.default_rng(step_seed(self._settings.seed, step=step, rank=stream))

    def _transform_at(self, step: int) -> EvalTransform:
        small = step < self._settings.small_share * self._steps
        return self._small_transform if small else self._transform

    def _main_pairs(self, step: int, rng: RankRng) -> Pairs:
        settings, transform = self._settings, self._transform_at(step)
        rows = batch_rows(
            step,
            images=len(self._data.study),
            batch_size=settings.optim.batch_size,
            seed=settings.seed,
        )[self._rank :: self._ranks]
        images = torch.from_numpy(self._data.images[rows.numpy()]).float() / 255
        augmented = augment(
            transform.stretch(images), settings.augment, size=transform.size, rng=rng
        )
        return self._pairs(augmented, self._data.study[rows])

    def expert_pairs(self, step: int, rng: RankRng) -> ExpertPairs:
        """Annotated images of a step with their heatmaps.

        Raises:
            ValueError: the run has no expert images.
        """
        settings, experts, expert = self._settings, self._experts, self._settings.expert
        if expert is None or experts is None:
            raise ValueError("the run has no expert images")
        transform, total = self._transform_at(step), len(experts.study)
        count = max(2, round(expert.share * settings.optim.batch_size))
        count += -count % self._ranks  # the same number on every rank
        order = self._shared_rng(step, _EXPERT_ROWS).permutation(total)
        rows = np.resize(order, count)  # repeats them if there are too few
        shuffled = other_rows(rows, count=total, rng=self._shared_rng(step, _SHUFFLED_ROWS))
        heatmap_rows = shuffled if expert.heatmaps == "shuffled" else rows
        rows, heatmap_rows = (some[self._rank :: self._ranks] for some in (rows, heatmap_rows))
        images, affine = augment_with_affine(
            experts.images[rows], settings.augment, transform=transform, rng=rng
        )
        mixup_rng = self._shared_rng(step, _MIXUP)
        mixed = expert.mixup == "beta"
        image_weight = float(mixup_rng.beta(expert.alpha, expert.alpha)) if mixed else 0.0
        heatmaps = torch.from_numpy(experts.heatmaps[heatmap_rows]).float() / 255
        return ExpertPairs(
            self._pairs(images, experts.study[torch.from_numpy(rows)]),
            warp(heatmaps, affine, size=transform.size).clamp(0, 1),
            image_weight,
        )

    def _labelled_batch(self, step: int, rng: RankRng) -> LabelledBatch | None:
        settings, data = self._settings.labelled, self._labelled
        if settings is None or data is None:
            return None
        count = min(settings.batch_size * self._ranks, len(data.images))
        rows = self._shared_rng(step, _LABELLED_ROWS).choice(len(data.images), count, replace=False)
        return draw_labelled_batch(
            data,
            rows[self._rank :: self._ranks],
            augment=self._settings.augment,
            transform=self._transform_at(step),
            rng=rng,
        )

    def _pairs(self, pixels: Tensor, study: Tensor) -> Pairs:
        data = self._data
        return Pairs(
            self._transform.normalise(pixels).contiguous(memory_format=torch.channels_last),
            {name: value[study] for name, value in data.prepared.items()},
            data.texts[study],
            data.labels[study],
            data.complete[study],
        )

    def _is_expert_step(self, step: int) -> bool:
        expert = self._settings.expert
        if expert is None or self._experts is None:
            return False
        probability = expert.curriculum.probability(step, steps=self._steps)
        return bool(self._shared_rng(step, _CURRICULUM).random() < probability)

    def _priming_weight(self, step: int) -> float:
        expert = self._settings.expert
        if expert is None or not expert.curriculum.is_cold(step, steps=self._steps):
            return 0.0
        return expert.priming_weight


def batch_rows(step: int, *, images: int, batch_size: int, seed: int) -> Tensor:
    """Image rows of a step; each epoch is another permutation."""
    epoch, index = divmod(step, images // batch_size)
    order = torch.randperm(images, generator=torch.Generator().manual_seed(_seed(seed, epoch)))
    return order[index * batch_size : (index + 1) * batch_size]


def step_seed(seed: int, *, step: int, rank: int = 0) -> int:
    """Seed for everything random in a step on one rank."""
    return _seed(seed, step, rank)


def other_rows(rows: NDArray[np.intp], *, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """For each row a random other one of ``count``."""
    return np.asarray((rows + rng.integers(1, count, size=len(rows))) % count)


def _seed(*parts: int) -> int:
    """63 bits from a hash: nearby numbers give unrelated seeds."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
