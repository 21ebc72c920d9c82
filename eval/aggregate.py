"""Numbers with n and interval for every system, measure and subset, from rows of statistics."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.metrics.base import MetricGroup, SufficientStats
from eval.results import MetricValue, finite
from eval.stats import Block, bootstrap, group_sums, intervals

Statistics = Mapping[tuple[str, str], SufficientStats]
"""By system and metric key: float64 [N, width]."""


def subset_numbers(
    subset: str,
    mask: NDArray[np.bool_],
    *,
    statistics: Statistics,
    metrics: Mapping[str, MetricGroup],
    patients: Sequence[str],
    samples: int,
    seed: int,
) -> list[MetricValue]:
    """Every number of a subset; all systems and measures are resampled with the same draws.

    Args:
        subset: its name.
        mask: bool [N], studies in it.
        statistics: of each system and metric.
        metrics: by key.
        patients: of each study, [N]; they are what is resampled.
        samples: number of resamples.
        seed: of the draws.
    """
    keys = list(statistics)
    blocks = blocks_of(metrics[key] for _, key in keys)
    groups = [patient for patient, inside in zip(patients, mask, strict=True) if inside]
    # summed by patient one part at a time: the parts side by side would be the largest thing here
    sums = np.concatenate([group_sums(statistics[key][mask], groups) for key in keys], axis=1)
    named = sorted(set(groups))
    ends = iter(intervals(bootstrap(sums, named, blocks, samples=samples, seed=seed)))
    total = sums.sum(axis=0)
    numbers = []
    for (system, _), block in zip(keys, blocks, strict=True):
        for measure, value in zip(block.measures, block.values(total), strict=True):
            interval = next(ends)
            count = measure.count(total[block.columns]) if measure.count else len(groups)
            numbers.append(
                MetricValue(
                    system=system,
                    subset=subset,
                    measure=measure.name,
                    value=finite(value),
                    low=finite(interval.low),
                    high=finite(interval.high),
                    n=int(count),
                    direction=measure.direction.value,
                )
            )
    return numbers


def blocks_of(metrics: Iterable[MetricGroup | type[MetricGroup]]) -> list[Block]:
    """The columns of each metric when their statistics stand side by side."""
    blocks, start = [], 0
    for metric in metrics:
        blocks.append(Block(metric.measures, slice(start, start + metric.width)))
        start += metric.width
    return blocks
