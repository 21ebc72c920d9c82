"""Risk and coverage: the score of a run that keeps only its most confident studies.

The curve, the area under it (AURC) and the score at a coverage, by the run's own confidence.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.base import Direction, Measure, SufficientStats, divide
from eval.results import finite
from eval.stats import intervals, resample_weights

_POINTS = 101  # of a drawn curve
_CELLS = 1_000_000  # of a block of resampled sums: 8 MB
_ORDERS = 200  # of a confidence that knows nothing


def has_risk(measure: Measure) -> bool:
    """Whether a measure has a good end and a range, so that a distance from its best is a risk."""
    bounded = math.isfinite(measure.low) and math.isfinite(measure.high)
    return bounded and measure.direction is not Direction.NONE


def risk_coverage(
    rows: SufficientStats,
    confidence: Sequence[float],
    groups: Sequence[str],
    measures: Sequence[Measure],
    *,
    at: float = 0.8,
    samples: int = 1_000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The curves of the measures of one metric, as a result keeps them.

    Each has ``measure``; the drawn curve's ``coverage`` in (0, 1], the share of studies kept, most
    confident first, and ``score`` over these; ``aurc``, the mean over all coverages of the risk,
    which is the distance from the measure's best value as a share of its range (0 is best);
    ``aurc_random``, that of a confidence that knows nothing: for a mean over studies the risk at
    full coverage, more for others (few studies have few of the labels of a macro mean);
    ``at``, the coverage asked for, ``score_at`` it and ``score_all``; and the ends of the 95 %
    intervals of ``aurc`` and ``score_at``.

    Args:
        rows: float64 [N, S], its statistics.
        confidence: of each study, higher is more certain; tied studies count as the mean over
            their orders.
        groups: patient of each study, for the intervals.
        measures: of it, each one that `has_risk`; one that is undefined for these
            studies (no study has one of its labels) gets no curve.
        at: coverage in (0, 1] whose score is wanted.
        samples: resamples of patients.
        seed: of the draws.
    """
    whole = rows.sum(axis=0)
    measures = [measure for measure in measures if np.isfinite(measure.combine(whole))]
    if not measures:
        return []
    sureness = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-sureness, kind="stable")
    ordered, sureness = rows[order], sureness[order]
    starts = np.flatnonzero(np.append(True, sureness[1:] != sureness[:-1]))  # of tied studies
    patients = [groups[place] for place in order]
    resampled = _resample(ordered, starts, patients, measures, at=at, samples=samples, seed=seed)
    (kept,) = _kept(ordered, starts, np.ones((1, len(ordered))))
    at_random = _at_random(rows, measures, seed=seed)
    count = len(kept)
    shown = np.unique(np.linspace(0, count - 1, min(_POINTS, count)).round().astype(int))
    curves = []
    for place, measure in enumerate(measures):
        scores = measure.combine(kept)
        aurc, score_at = intervals(resampled[:, place])
        risk = _risk(scores, measure)
        curves.append(
            {
                "measure": measure.name,
                "coverage": [round(float(x), 6) for x in (shown + 1) / count],
                "score": [finite(y) for y in scores[shown]],
                "aurc": finite(float(np.nanmean(risk))),
                "aurc_random": finite(at_random[place]),
                "at": at,
                "score_at": finite(scores[max(int(np.ceil(at * count)) - 1, 0)]),
                "score_all": finite(scores[-1]),
                "aurc_low": finite(aurc[0]),
                "aurc_high": finite(aurc[1]),
                "score_at_low": finite(score_at[0]),
                "score_at_high": finite(score_at[1]),
            }
        )
    return curves


def _kept(
    rows: SufficientStats, starts: NDArray[np.intp], weights: SufficientStats
) -> SufficientStats:
    """Sums of the surest studies, as many as there are: [N, S], weights [B, N] -> [B, N, S].

    Tied studies bring their mean, which is what they bring over all their orders.
    """
    sizes = np.diff(starts, append=len(rows))

    def of_ties(values: SufficientStats) -> SufficientStats:
        return np.repeat(np.add.reduceat(values, starts, axis=1), sizes, axis=1)

    share = np.nan_to_num(divide(weights, of_ties(weights)))
    brought = share[:, :, None] * of_ties(weights[:, :, None] * rows)
    return np.asarray(np.cumsum(brought, axis=1), dtype=np.float64)


def _at_random(
    rows: SufficientStats, measures: Sequence[Measure], *, seed: int
) -> NDArray[np.float64]:
    """AURC of random orders, [M].

    They are rotations of one: every study comes about as often early as late, so that for a mean
    over studies almost no error of sampling is left.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    starts = np.unique(np.linspace(0, len(rows), _ORDERS, endpoint=False).astype(int))
    found = []
    for start in starts:
        kept = np.cumsum(rows[np.roll(order, -start)], axis=0)
        found.append([np.nanmean(_risk(measure.combine(kept), measure)) for measure in measures])
    return np.asarray(np.mean(found, axis=0))


def _risk(scores: SufficientStats, measure: Measure) -> SufficientStats:
    best = measure.high if measure.direction is Direction.HIGHER else measure.low
    return np.abs(best - scores) / (measure.high - measure.low)


def _resample(
    ordered: SufficientStats,
    starts: NDArray[np.intp],
    patients: Sequence[str],
    measures: Sequence[Measure],
    *,
    at: float,
    samples: int,
    seed: int,
) -> SufficientStats:
    """AURC and score at a coverage, of resampled patients: float64 [samples, M, 2]."""
    found = []
    block = max(1, _CELLS // max(ordered.size, 1))
    for drawn in resample_weights(patients, samples=samples, seed=seed):
        for start in range(0, len(drawn), block):
            weights = drawn[start : start + block]
            kept = np.cumsum(weights, axis=1)
            sums = _kept(ordered, starts, weights)
            place = (kept >= at * kept[:, -1:]).argmax(axis=1)
            columns = []
            for measure in measures:
                scores = measure.combine(sums)
                risk = _risk(scores, measure)
                known = np.isfinite(risk)  # as in the estimate, undefined steps do not count
                summed = (weights * np.where(known, risk, 0)).sum(axis=1)
                aurc = divide(summed, (weights * known).sum(axis=1))
                columns.append(np.stack([aurc, scores[np.arange(len(scores)), place]], axis=1))
            found.append(np.stack(columns, axis=1))
    return np.concatenate(found)
