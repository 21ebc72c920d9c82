"""How good a retrieval is: the report itself found, and findings agreed on.

Owns the measures over similarities and labels, and the bootstrap over studies. Higher is better
for all but ``median_rank``. Knows numpy only: not which encoder, baseline or collection it scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]

NEIGHBOURS = 5
"""Reports that vote; what a prompt holds."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % percentile interval over resampled studies; n is the number of them."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Measure = Callable[[NDArray[np.intp]], float]
"""A value over the studies with these rows."""


def bootstrap(measure: Measure, *, studies: int, resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentile interval of a measure over studies drawn with replacement.

    A resample on which the measure is undefined (no positive image) is drawn without; the value is
    NaN only if the whole sample is.
    """
    generator = np.random.default_rng(seed)
    draws = [measure(generator.integers(studies, size=studies)) for _ in range(resamples)]
    defined = np.asarray([draw for draw in draws if not np.isnan(draw)])
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) else (np.nan, np.nan)
    return Interval(measure(np.arange(studies)), float(low), float(high), studies)


def own_rank(similarity: NDArray[np.floating], texts: list[str]) -> NDArray[np.int64]:
    """Rank (1 is first) of each image's own report among the distinct texts of the same studies.

    Args:
        similarity: [N, N], image by report; row i and column i are one study.
        texts: the N reports; equal texts count once, and finding an equal text is finding it.
    """
    first = {text: column for column, text in reversed(list(enumerate(texts)))}
    columns = np.asarray(sorted(first.values()))
    own = similarity[np.arange(len(texts)), [first[text] for text in texts]]
    return np.asarray((similarity[:, columns] > own[:, None]).sum(1) + 1)


@dataclass(frozen=True, slots=True)
class Votes:
    """What the retrieved reports say of each image, against what its own report says.

    Attributes:
        votes: float64 [N, L], share of the retrieved reports with a finding.
        truth: bool [N, L].
    """

    votes: Floats
    truth: NDArray[np.bool_]

    def found(self, rows: NDArray[np.intp]) -> float:
        """Share of the (image, finding) pairs whose finding is in any retrieved report."""
        truth = self.truth[rows]
        return _ratio(((self.votes[rows] > 0) & truth).sum(), truth.sum())

    def right(self, rows: NDArray[np.intp]) -> float:
        """Share of the (retrieved report, finding) mentions that hold for the image."""
        votes = self.votes[rows]
        return _ratio((votes * self.truth[rows]).sum(), votes.sum())

    def micro_f1(self, rows: NDArray[np.intp], *, least: float) -> float:
        """F1 over all (image, finding) pairs of "at least this share of the reports says so"."""
        said, truth = self.votes[rows] >= least, self.truth[rows]
        return _ratio(2 * (said & truth).sum(), said.sum() + truth.sum())

    def auc(self, rows: NDArray[np.intp], finding: int) -> float:
        """Area under the ROC curve of the votes for one finding; NaN without both classes."""
        return area_under_curve(self.votes[rows, finding], self.truth[rows, finding])

    def macro_auc(self, rows: NDArray[np.intp], *, least_positive: int = 5) -> float:
        """Mean AUC over the findings that at least so many images of the whole sample have."""
        findings = np.flatnonzero(self.truth.sum(0) >= least_positive)
        areas = [self.auc(rows, int(finding)) for finding in findings]
        return float(np.nanmean(areas)) if areas else float("nan")


def vote(neighbours: NDArray[np.intp], labels: NDArray[np.bool_]) -> Floats:
    """Share of each image's neighbours with each finding: [N, K], [reports, L] -> [N, L]."""
    return np.asarray(labels[neighbours].mean(1))


def overlap(
    neighbours: NDArray[np.intp], said: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> Floats:
    """Mean Jaccard index of an image's labels and each neighbour's: float64 [N].

    Args:
        neighbours: [N, K] rows of ``said``.
        said: [reports, L], what the reports are labelled with.
        truth: [N, L], what the images' own reports are labelled with; two empty sets agree.
    """
    theirs, own = said[neighbours], truth[:, None, :]
    union = (theirs | own).sum(-1)
    return np.asarray(np.where(union > 0, (theirs & own).sum(-1) / np.maximum(union, 1), 1).mean(1))


def nearest(similarity: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Columns of the ``count`` most similar, best first; ties by column, so it is repeatable."""
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count]


def area_under_curve(scores: Floats, truth: NDArray[np.bool_]) -> float:
    """ROC AUC by ranks, ties count half; NaN unless both classes are there."""
    positive = int(truth.sum())
    negative = len(truth) - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(scores)[truth].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def table(rows: Mapping[str, Mapping[str, Interval | float]]) -> str:
    """Markdown: one line a system, one column a measure."""
    columns = list(dict.fromkeys(name for values in rows.values() for name in values))
    lines = ["| |" + "".join(f" {name} |" for name in columns), "|---|" + "---|" * len(columns)]
    for system, values in rows.items():
        cells = "".join(f" {values.get(name, '')} |" for name in columns)
        lines.append(f"| {system} |{cells}")
    return "\n".join(lines)
