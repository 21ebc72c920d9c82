"""How well retrieved reports agree with an image's own report, by finding labels.

Owns the measures; intervals and tests are `eval`'s. Used for the encoder's model card.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.metrics.base import Direction
from eval.ranking import weighted_auroc
from eval.tasks.common import Figure, mean_figure

NEIGHBOURS = 5
"""Reports that vote; what a prompt holds."""

NORMAL = "normal"
"""Not a finding, but its share among the neighbours is worth an AUC."""

MIN_POSITIVE = 5
"""Images with a finding that an AUC needs."""

_MAJORITY = 0.4
"""Share of the reports that must mention a finding for it to count as said: two of five."""

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


def nearest(similarity: NDArray[np.floating], count: int = NEIGHBOURS) -> NDArray[np.intp]:
    """Columns of the most similar, best first; ties by column."""
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def agreement_figures(
    hits: NDArray[np.intp],
    *,
    said: Labels,
    truth: Labels,
    names: Sequence[str],
    shown: Sequence[str] = (),
) -> list[Figure]:
    """Agreement of the reports that were retrieved for each image with its own report.

    Args:
        hits: [N, K], rows of ``said``.
        said: [reports, L], labels of the reports.
        truth: [N, L], labels of the images' own reports.
        names: of the L labels.
        shown: labels that get an AUC of their own, where ``names`` has them.
    """
    votes = said[hits].mean(1)
    findings = [at for at, name in enumerate(names) if name != NORMAL]
    overlaps = mean_figure({"label overlap": (Direction.HIGHER, overlap(hits, said, truth))})
    ratios = _ratio_figure(votes[:, findings], truth[:, findings])
    return [overlaps, ratios, _auc_figure(votes, truth, names, findings, shown)]


def overlap(hits: NDArray[np.intp], said: Labels, truth: Labels) -> Floats:
    """Mean Jaccard index of an image's labels and each hit's: [N]; two empty sets agree."""
    theirs, own = said[hits], truth[:, None, :]
    union = (theirs | own).sum(-1)
    return np.asarray(np.where(union > 0, (theirs & own).sum(-1) / np.maximum(union, 1), 1).mean(1))


def difference(one: Figure, other: Figure) -> Figure:
    """The same measures of one system minus those of another, on the same studies."""
    return Figure(
        one.names,
        one.directions,
        one.counts,
        lambda weights: one.values(weights) - other.values(weights),
    )


def _ratio_figure(votes: Floats, truth: Labels) -> Figure:
    """Findings found, mentions that are right, and F1, over all pairs of image and finding."""
    counted = votes >= _MAJORITY
    parts = {
        "finding found": ((votes > 0) & truth, truth),
        "mention right": (votes * truth, votes),
        "F1 (2 of 5 say so)": (2 * (counted & truth), counted.astype(int) + truth),
    }
    above, below = (
        np.stack([pair[side].sum(1) for pair in parts.values()], axis=1).astype(np.float64)
        for side in (0, 1)
    )

    def values(weights: Floats) -> Floats:
        whole = weights @ below
        return np.asarray(weights @ above / np.where(whole == 0, np.nan, whole))

    return _higher(tuple(parts), len(truth), values)


def _auc_figure(
    votes: Floats,
    truth: Labels,
    names: Sequence[str],
    findings: Sequence[int],
    shown: Sequence[str],
) -> Figure:
    """AUC of the votes: macro over the findings with enough images, and by label."""
    macro = [at for at in findings if truth[:, at].sum() >= MIN_POSITIVE]
    single = [names.index(name) for name in shown if name in names]

    def values(weights: Floats) -> Floats:
        areas = {
            at: weighted_auroc(votes[:, at], truth[:, at], weights) for at in {*macro, *single}
        }
        undefined = np.full(len(weights), np.nan)
        mean = np.nanmean([areas[at] for at in macro], axis=0) if macro else undefined
        return np.stack([mean, *(areas[at] for at in single)], axis=1)

    labels = (f"AUC {names[at]} (n={int(truth[:, at].sum())})" for at in single)
    return _higher(("macro AUC", *labels), len(truth), values)


def _higher(names: tuple[str, ...], count: int, values: Callable[[Floats], Floats]) -> Figure:
    return Figure(names, (Direction.HIGHER,) * len(names), (count,) * len(names), values)
