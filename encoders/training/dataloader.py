"""The batch of each step, prepared while the step before is taken.

Order, augmentation, expert pairs and mixup are functions of the seed and the step, so that neither
the number of threads nor the number of ranks nor a resume changes a bit of what is seen.

Threads, not torch's DataLoader: the images are mapped into memory and torch releases the
interpreter's lock, so nothing is gained by copying batches between processes.
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
from encoders.towers.base import Prepared
from encoders.training.augment import RankRng, augment, augment_marked, warp
from encoders.training.config import ExpertSettings, TrainSettings
from encoders.training.expert import draw_share, is_expert_step
from encoders.training.labelled import LabelledBatch, LabelledTensors, draw_labelled_batch
from encoders.training.training_set import ExpertTensors, TrainingTensors

_CURRICULUM, _ROWS, _SHARE, _OTHER, _LABELLED = -1, -2, -3, -4, -5
"""In place of a rank: draws that all ranks share."""


class Pairs(NamedTuple):
    """Normalised images float32 [N, channels, H, W] and their reports."""

    pixels: Tensor
    prepared: Prepared
    texts: Tensor
    labels: Tensor
    complete: Tensor


class ExpertPairs(NamedTuple):
    """Annotated images, and how much of each is kept in the mixture.

    Attributes:
        pairs: not yet mixed.
        heatmaps: float32 [E, H, W] in [0, 1], cropped like the images.
        share: of the image in the mixture; the rest is the expert image.
    """

    pairs: Pairs
    heatmaps: Tensor
    share: float


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The input of one step.

    Attributes:
        main: augmented images and their reports.
        expert: None by the curriculum's draw.
        labelled: None where the settings have none.
        priming: weight of the priming loss.
        state: of the generator after these draws; dropout continues from there.
    """

    main: Pairs
    expert: ExpertPairs | None
    labelled: LabelledBatch | None
    priming: float
    state: Tensor


class BatchLoader:
    """The batches of a run of so many steps; a rank takes the rows ``rank :: ranks`` of each."""

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
        self._large = transform
        self._small = replace(transform, size=settings.small_size or transform.size)
        self._steps = steps
        self._rank, self._ranks = rank, ranks

    def batches(self, first: int = 0) -> Iterator[StepBatch]:
        """Batches of the steps from ``first`` to the end, prepared ahead by ``num_workers``."""
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

    def _transform_at(self, step: int) -> EvalTransform:
        """Small images first: cheaper, and what they teach is kept."""
        return self._small if step < self._settings.small_share * self._steps else self._large

    def _labelled_batch(self, step: int, rng: RankRng) -> LabelledBatch | None:
        """As many labelled images on every rank, none of them twice."""
        chosen, data = self._settings.labelled, self._labelled
        if chosen is None or data is None:
            return None
        seed = step_seed(self._settings.seed, step=step, rank=_LABELLED)
        wanted = min(chosen.batch_size * self._ranks, len(data.images))
        rows = np.random.default_rng(seed).choice(len(data.images), wanted, replace=False)
        return draw_labelled_batch(
            data,
            rows[self._rank :: self._ranks],
            augment=self._settings.augment,
            transform=self._transform_at(step),
            rng=rng,
        )

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
        """The expert half of a step: images and heatmaps under the same crops, and λ.

        Raises:
            ValueError: the run has no experts.
        """
        settings, experts, chosen = self._settings, self._experts, self._settings.expert
        if chosen is None or experts is None:
            raise ValueError("the run has no expert images")
        transform = self._transform_at(step)
        rows, other = self._expert_rows(chosen, experts, step)
        cropped, maps = augment_marked(
            experts.images[rows], settings.augment, transform=transform, rng=rng
        )
        pairs = self._pairs(cropped, experts.study[torch.from_numpy(rows)])
        seed = step_seed(settings.seed, step=step, rank=_SHARE)
        share = draw_share(chosen.alpha, seed) if chosen.mixup == "beta" else 0.0
        shuffled = chosen.heatmaps == "shuffled"
        heat = torch.from_numpy(experts.heatmaps[other if shuffled else rows]).float()
        return ExpertPairs(pairs, warp(heat / 255, maps, size=transform.size).clamp(0, 1), share)

    def _expert_rows(
        self, chosen: ExpertSettings, experts: ExpertTensors, step: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """This rank's rows of the annotated images, and for each another one."""
        seed, count = self._settings.seed, len(experts.study)
        wanted = max(2, round(chosen.share * self._settings.optim.batch_size))
        wanted += -wanted % self._ranks  # every rank brings as many
        generator = np.random.default_rng(step_seed(seed, step=step, rank=_ROWS))
        rows = np.resize(generator.permutation(count), wanted)  # too few images come again
        other = other_rows(rows, count=count, seed=step_seed(seed, step=step, rank=_OTHER))
        return rows[self._rank :: self._ranks], other[self._rank :: self._ranks]

    def _pairs(self, pixels: Tensor, study: Tensor) -> Pairs:
        data = self._data
        return Pairs(
            self._large.normalise(pixels).contiguous(memory_format=torch.channels_last),
            {name: value[study] for name, value in data.prepared.items()},
            data.texts[study],
            data.labels[study],
            data.complete[study],
        )

    def _is_expert_step(self, step: int) -> bool:
        chosen = self._settings.expert
        if chosen is None or self._experts is None:
            return False
        chance = chosen.curriculum.probability(step, steps=self._steps)
        return is_expert_step(chance, step_seed(self._settings.seed, step=step, rank=_CURRICULUM))

    def _priming_weight(self, step: int) -> float:
        chosen = self._settings.expert
        if chosen is None or not chosen.curriculum.is_cold(step, steps=self._steps):
            return 0.0
        return chosen.priming_weight


def batch_rows(step: int, *, images: int, batch_size: int, seed: int) -> Tensor:
    """Rows of the images of a step: each epoch is another permutation."""
    epoch, at = divmod(step, images // batch_size)
    order = torch.randperm(images, generator=torch.Generator().manual_seed(_seed(seed, epoch)))
    return order[at * batch_size : (at + 1) * batch_size]


def step_seed(seed: int, *, step: int, rank: int = 0) -> int:
    """Seed of everything random in a step on one rank."""
    return _seed(seed, step, rank)


def other_rows(rows: NDArray[np.intp], *, count: int, seed: int) -> NDArray[np.intp]:
    """For each row any other of ``count``, evenly drawn, never itself."""
    ahead = np.random.default_rng(seed).integers(1, count, size=len(rows))
    return np.asarray((rows + ahead) % count)


def _seed(*parts: int) -> int:
    """63 bits from numbers; nearby numbers give unrelated seeds."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
