"""When a step has expert pairs: cold start, warm-up, cool-down, constant.

Owns the probability at a step and the draw. Both are functions of the settings, the seed and the
step, so that all ranks draw alike and a resumed run draws as it would have.

Source: Kumar & Marttinen, arXiv 2403.10153: 10 % of the steps none (and priming), 30 % rising from
0.05 to 0.5, 40 % falling to 0.1 (0.05 in the authors' code), then constant: 22 % on average.
"""

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Curriculum(BaseModel):
    """Shares of all steps, and probabilities of an expert step.

    Attributes:
        cold: share without expert steps; the heatmap processor is primed in it.
        warm: share in which the probability rises.
        cool: share in which it falls; it is constant in the rest.
        first, peak, last: probability at the start of the warm-up, at its end, after the cool-down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cold: float = Field(default=0.1, ge=0, le=1)
    warm: float = Field(default=0.3, ge=0, le=1)
    cool: float = Field(default=0.4, ge=0, le=1)
    first: float = Field(default=0.05, ge=0, le=1)
    peak: float = Field(default=0.5, ge=0, le=1)
    last: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _fits_into_a_run(self) -> Self:
        if self.cold + self.warm + self.cool > 1 + 1e-9:
            raise ValueError(
                f"cold {self.cold}, warm {self.warm} and cool {self.cool} must sum to at most 1"
            )
        return self

    def is_cold(self, step: int, *, steps: int) -> bool:
        """Whether the step is in the cold start."""
        return step / steps < self.cold

    def probability(self, step: int, *, steps: int) -> float:
        """Of an expert step at a step of a run of so many."""
        at = step / steps - self.cold
        if at < 0:
            return 0.0
        if at < self.warm:
            return self.first + (self.peak - self.first) * at / self.warm
        at -= self.warm
        if at < self.cool:
            return self.peak + (self.last - self.peak) * at / self.cool
        return self.last

    def mean_probability(self, *, steps: int = 10_000) -> float:
        """Expected share of expert steps over a run."""
        return float(np.mean([self.probability(step, steps=steps) for step in range(steps)]))


def is_expert_step(probability: float, seed: int) -> bool:
    """The draw; the seed is the step's, the same on every rank."""
    return bool(np.random.default_rng(seed).random() < probability)
