"""When a step has expert pairs: cold start, warm-up, cool-down, constant.

Owns the probability at a step and the draw. Both are functions of the settings, the seed and the
step, so that every rank draws alike and a resumed run draws as it would have.

Source: Kumar & Marttinen, arXiv 2403.10153: 10 % of the steps none (and priming), 30 % rising from
0.05 to 0.5, 40 % falling to 0.1 (0.05 in the authors' code), then constant: 22 % on average.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """Shares of all steps and probabilities of an expert step.

    Attributes:
        cold: share without expert steps; the processor is primed in it.
        warm: share in which the probability rises.
        cool: share in which it falls; what is left is constant.
        first, peak, last: probability at the start of warm-up, at its end, after cool-down.
    """

    cold: float = 0.1
    warm: float = 0.3
    cool: float = 0.4
    first: float = 0.05
    peak: float = 0.5
    last: float = 0.1

    def __post_init__(self) -> None:
        if min(self.cold, self.warm, self.cool) < 0 or self.cold + self.warm + self.cool > 1 + 1e-9:
            raise ValueError(
                f"the shares cold {self.cold}, warm {self.warm}, cool {self.cool} must be at least "
                "0 and sum to at most 1"
            )
        if not all(0 <= chance <= 1 for chance in (self.first, self.peak, self.last)):
            raise ValueError(
                f"first {self.first}, peak {self.peak}, last {self.last} must be probabilities"
            )

    def is_cold(self, step: int, *, steps: int) -> bool:
        """Whether the step is in the cold start."""
        return step / steps < self.cold

    def probability(self, step: int, *, steps: int) -> float:
        """Chance of an expert step, 0 to 1, at a step of a run of so many."""
        at = step / steps - self.cold
        if at < 0:
            return 0.0
        if at < self.warm:
            return self.first + (self.peak - self.first) * at / self.warm
        at -= self.warm
        if at < self.cool:
            return self.peak + (self.last - self.peak) * at / self.cool
        return self.last


def constant(probability: float) -> Curriculum:
    """The same chance at every step, no cold start."""
    return Curriculum(cold=0, warm=0, cool=0, first=probability, peak=probability, last=probability)


def mean_probability(curriculum: Curriculum, *, steps: int = 10_000) -> float:
    """Share of expert steps to be expected over a run."""
    return float(np.mean([curriculum.probability(step, steps=steps) for step in range(steps)]))


def is_expert_step(probability: float, seed: int) -> bool:
    """The draw; the seed is the step's, the same on every rank."""
    return bool(np.random.default_rng(seed).random() < probability)
