"""Risk and coverage: the score of a run if only its most confident studies are kept.

The curve, the area under it (AURC), and the score at a given coverage, by the run's own confidence.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.base import Direction, Measure, SufficientStats, divide
from eval.results import finite
from eval.stats import Floats, intervals, resample_weights

_CURVE_POINTS = 101
_RANDOM_ORDERS = 200
_BLOCK_CELLS = 1_000_000
"""Size of a block of resampled sums: 8 MB."""


def has_risk(measure: Measure) -> bool:
    """Whether a measure has a direction and a range, so that a distance from its best is a risk."""
    is_bounded = math.isfinite(measure.low) and math.isfinite(measure.high)
    return is_bounded and measure.direction is not Direction.NONE


def risk_coverage(
    rows: SufficientStats,
    confidence: Sequence[float],
    groups: Sequence[str],
    measures: Sequence[Measure],
    *,
    coverage: float = 0.8,
    samples: int = 1_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Risk-coverage curves of the measures of a metric, as `Result.curves` has them.

    ``coverage`` and ``score`` are the curve: share of studies kept, most confident first, and the
    score over them. ``aurc`` is the mean risk over all coverages, where risk is the distance from
    the measure's best value as a share of its range (0 is best). ``aurc_random`` is that of an
    uninformative confidence: for a mean over studies the risk at full coverage, for others more
    (few studies have few of the labels of a macro mean).

    Args:
        rows: statistics of the studies, float64 [N, S].
        confidence: of each study; tied studies count as the mean over their orders.
        groups: patient of each study.
        measures: each one `has_risk`; those undefined for these studies get no curve.
        coverage: in (0, 1], whose score is reported as ``score_at``.
        samples: number of resamples.
        seed: of the resamples and random orders.
    """
    total = rows.sum(axis=0)
    measures = [measure for measure in measures if np.isfinite(measure.combine(total))]
    if not measures:
        return []
    order = np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable")
    ordered, patients = rows[order], [groups[i] for i in order]
    sorted_confidence = np.asarray(confidence, dtype=np.float64)[order]
    is_new = np.append(True, sorted_confidence[1:] != sorted_confidence[:-1])
    tie_starts = np.flatnonzero(is_new)
    resampled = _resample(
        ordered, tie_starts, patients, measures, coverage=coverage, samples=samples, seed=seed
    )
    (sums,) = _cumulative_sums(ordered, tie_starts, np.ones((1, len(ordered))))
    random_aurcs = _random_aurcs(rows, measures, seed=seed)
    count = len(sums)
    points = np.unique(np.linspace(0, count - 1, min(_CURVE_POINTS, count)).round().astype(int))
    curves = []
    for i, measure in enumerate(measures):
        scores = measure.combine(sums)
        aurc, score_at = intervals(resampled[:, i])
        curves.append(
            {
                "measure": measure.name,
                "coverage": [round(float(x), 6) for x in (points + 1) / count],
                "score": [finite(y) for y in scores[points]],
                "aurc": finite(float(np.nanmean(_risk(scores, measure)))),
                "aurc_random": finite(random_aurcs[i]),
                "at": coverage,
                "score_at": finite(scores[max(int(np.ceil(coverage * count)) - 1, 0)]),
                "score_all": finite(scores[-1]),
                "aurc_low": finite(aurc[0]),
                "aurc_high": finite(aurc[1]),
                "score_at_low": finite(score_at[0]),
                "score_at_high": finite(score_at[1]),
            }
        )
    return curves


def _cumulative_sums(
    rows: SufficientStats, tie_starts: NDArray[np.intp], weights: Floats
) -> SufficientStats:
    """Sums over the 1, 2, ... most confident studies: [N, S], weights [B, N] -> [B, N, S].

    Each tied study contributes the mean of its ties, as it does on average over their orders.
    """
    sizes = np.diff(tie_starts, append=len(rows))

    def tie_sums(values: Floats) -> Floats:
        return np.repeat(np.add.reduceat(values, tie_starts, axis=1), sizes, axis=1)

    share = np.nan_to_num(divide(weights, tie_sums(weights)))
    contributions = share[:, :, None] * tie_sums(weights[:, :, None] * rows)
    return np.asarray(np.cumsum(contributions, axis=1), dtype=np.float64)


def _random_aurcs(rows: SufficientStats, measures: Sequence[Measure], *, seed: int) -> Floats:
    """Mean AURC over random orders, [M].

    The orders are rotations of one, so every study comes equally often early and late: for a mean
    over studies this leaves almost no sampling error.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    starts = np.unique(np.linspace(0, len(rows), _RANDOM_ORDERS, endpoint=False).astype(int))
    aurcs = []
    for start in starts:
        sums = np.cumsum(rows[np.roll(order, -start)], axis=0)
        aurcs.append([np.nanmean(_risk(measure.combine(sums), measure)) for measure in measures])
    return np.asarray(np.mean(aurcs, axis=0))


def _risk(scores: Floats, measure: Measure) -> Floats:
    best = measure.high if measure.direction is Direction.HIGHER else measure.low
    return np.abs(best - scores) / (measure.high - measure.low)


def _resample(
    ordered: SufficientStats,
    tie_starts: NDArray[np.intp],
    patients: Sequence[str],
    measures: Sequence[Measure],
    *,
    coverage: float,
    samples: int,
    seed: int,
) -> Floats:
    """AURC and score at the coverage for resampled patients: float64 [samples, M, 2]."""
    blocks = []
    size = max(1, _BLOCK_CELLS // max(ordered.size, 1))
    for drawn in resample_weights(patients, samples=samples, seed=seed):
        for start in range(0, len(drawn), size):
            weights = drawn[start : start + size]
            kept = np.cumsum(weights, axis=1)
            position = (kept >= coverage * kept[:, -1:]).argmax(axis=1)
            sums = _cumulative_sums(ordered, tie_starts, weights)
            columns = []
            for measure in measures:
                scores = measure.combine(sums)
                risk = _risk(scores, measure)
                defined = np.isfinite(risk)  # as in the estimate, undefined coverages are skipped
                total = (weights * np.where(defined, risk, 0)).sum(axis=1)
                aurc = divide(total, (weights * defined).sum(axis=1))
                columns.append(np.stack([aurc, scores[np.arange(len(scores)), position]], axis=1))
            blocks.append(np.stack(columns, axis=1))
    return np.concatenate(blocks)
