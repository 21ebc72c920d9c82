"""What each step of a run sees, made while the step before is taken.

Owns the order of draws of a step: its images' augmentation, its expert pairs. All of it is a
function of the seed and the step, drawn from a generator of the step's own, so that neither the
number of loaders nor the number of ranks changes a bit of what is seen.

Threads, not worker processes: the images are bytes mapped into memory and torch lets go of the
interpreter's lock, so that nothing would be gained by copying batches from process to process.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from encoders.preprocess import EvalTransform
from encoders.training.augment import Draws, augment
from encoders.training.batches import TrainingSet, batch_rows, step_seed
from encoders.training.config import TrainSettings
from encoders.training.experts import ExpertSet, draw_is_expert, expert_pairs
from encoders.training.objective import ExpertPairs, Pairs


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The input of one step.

    Attributes:
        main: augmented images and their reports.
        expert: the expert pairs, or None by the curriculum's draw.
        priming: weight of the priming loss.
        state: of the generator after these draws; dropout goes on from there.
    """

    main: Pairs
    expert: ExpertPairs | None
    priming: float
    state: Tensor


class BatchLoader:
    """The inputs of all steps of a run, in any order, fastest in the usual one.

    Args:
        settings: of the run.
        data: all images and reports.
        experts: images that experts looked at.
        transform: of evaluation; augmentation comes before its last step.
        steps: of the whole run.
        rank, ranks: the rows ``rank :: ranks`` of each batch are this process's.
    """

    def __init__(
        self,
        settings: TrainSettings,
        *,
        data: TrainingSet,
        experts: ExpertSet | None,
        transform: EvalTransform,
        steps: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self._settings = settings
        self._data = data
        self._experts = experts
        self._transform = transform
        self._steps = steps
        self._rank, self._ranks = rank, ranks
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[int, Future[StepBatch]] = {}

    @contextmanager
    def loading_ahead(self) -> Iterator[Self]:
        """Within this, the next steps' inputs are made in threads of their own."""
        loaders = self._settings.loaders
        self._pool = ThreadPoolExecutor(loaders, "loader") if loaders else None
        try:
            yield self
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self._ahead.clear()

    def take(self, step: int) -> StepBatch:
        """The input of a step; starts on those that follow."""
        if self._pool is None:
            return self.make(step)
        for at in range(step, min(step + 1 + self._settings.loaders, self._steps)):
            if at not in self._ahead:
                self._ahead[at] = self._pool.submit(self.make, at)
        return self._ahead.pop(step).result()

    def make(self, step: int) -> StepBatch:
        """The input of a step, made here and now."""
        generator = torch.Generator().manual_seed(step_seed(self._settings.seed, step=step))
        draws = Draws(generator, self._rank, self._ranks)
        main = self._main(step, draws)
        expert = self._expert(step, draws)
        return StepBatch(main, expert, self._priming(step), generator.get_state())

    def _main(self, step: int, draws: Draws) -> Pairs:
        data, settings = self._data, self._settings
        rows = batch_rows(
            step,
            images=len(data.study),
            batch_size=settings.optim.batch_size,
            seed=settings.seed,
        )[self._rank :: self._ranks]
        images = torch.from_numpy(data.images[rows.numpy()]).float() / 255
        seen = augment(
            self._transform.stretch(images),
            settings.augment,
            size=self._transform.size,
            draws=draws,
        )
        pixels = self._transform.normalise(seen).contiguous(memory_format=torch.channels_last)
        study = data.study[rows]
        prepared = {name: value[study] for name, value in data.prepared.items()}
        return Pairs(pixels, prepared, data.texts[study], data.labels[study])

    def _expert(self, step: int, draws: Draws) -> ExpertPairs | None:
        if self._experts is None or not draw_is_expert(
            self._settings, step=step, steps=self._steps
        ):
            return None
        return expert_pairs(
            self._experts,
            self._data,
            settings=self._settings,
            transform=self._transform,
            step=step,
            draws=draws,
        )

    def _priming(self, step: int) -> float:
        chosen = self._settings.expert
        if chosen is None or not chosen.has_processor:
            return 0.0
        cold = chosen.curriculum.curriculum().is_cold(step, steps=self._steps)
        return chosen.priming_weight if cold else 0.0
