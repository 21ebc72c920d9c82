"""How the drafts of a run look as a set: how long, how varied, how often about an earlier image.

These catch what overlap measures reward: one safe report for every image.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from eval.io.studies import Pair
from eval.metrics.base import (
    Card,
    Direction,
    Measure,
    MetricGroup,
    Setup,
    SufficientStats,
    divide,
    mean_measure,
)
from eval.rules_version import rules_id
from rag.report_nlp.non_findings import mentions_prior


class Diversity(MetricGroup):
    """See the card."""

    key = "diversity"
    width = 9
    whole_run = True
    card = Card(
        title="Length, variety and invented priors",
        formula="words = mean words of a draft; length ratio = words of all drafts / words of "
        "their references; unique-report ratio = different drafts / drafts; most common report = "
        "share of drafts equal to the run's most frequent one; invented-prior rate = share of "
        "drafts with a phrase that compares with an earlier image",
        words="words split at blanks; drafts are equal if they are so word for word, whatever the "
        "case and the blanks",
        convention="missing drafts count in the invented-prior rate only (as 1); no image of the "
        "run came with a prior, so every comparison is invented; variety in an interval is that of "
        "the whole run, not of the resample",
        source="this project; priors as in Ramesh et al., ML4H 2022 (CXR-ReDonE)",
    )
    measures = (
        mean_measure("words", Direction.NONE, column=0, high=float("inf")),
        Measure(
            "length ratio",
            Direction.NONE,
            0.0,
            float("inf"),
            lambda rows: divide(rows[..., 0], rows[..., 2]),
            lambda rows: rows[..., 1],
        ),
        mean_measure("unique-report ratio", Direction.HIGHER, column=3),
        mean_measure("most common report", Direction.LOWER, column=5),
        mean_measure("invented-prior rate", Direction.LOWER, column=7),
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.version = f"1-{rules_id()}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair of one run: float64 [N, 9]."""
        drafts = [" ".join(pair.draft.lower().split()) for pair in pairs]
        times = Counter(filter(None, drafts))
        most = max(times.values(), default=0)
        # a text counts as the most common one only if it is; ties go to the first in order
        common = min((text for text, count in times.items() if count == most), default="")
        rows = np.zeros((len(pairs), self.width))
        for row, pair, draft in zip(rows, pairs, drafts, strict=True):
            if draft:
                row[0:2] = len(draft.split()), 1
                row[2] = len(pair.reference.split())
                row[3:5] = 1 / times[draft], 1
                row[5:7] = draft == common, 1
            row[7:9] = not draft or bool(mentions_prior(pair.draft)), 1
        return rows
