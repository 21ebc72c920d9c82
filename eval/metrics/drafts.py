"""Length and variety of drafts, and whether their sentences are supported by the evidence."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from encoders.report_sections import normalize_text
from eval.errors import NotAvailableError
from eval.metrics.base import (
    Direction,
    MeanMetric,
    Measure,
    SufficientStats,
    divide,
    mean_measure,
)
from eval.metrics.findings import RulesMetric
from eval.studies import Pair
from rag.report_nlp.non_findings import prior_mentions


class Diversity(RulesMetric):
    """Length, variety and invented priors, which expose one safe report for every image.

    A row: words, drafts, words of the reference; then pairs of sum and count.
    """

    key = "diversity"
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
    width = 9
    whole_run = True

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair of one run: float64 [N, 9]."""
        drafts = [normalize_text(pair.draft) for pair in pairs]
        counts = Counter(filter(None, drafts))
        # ties in alphabetical order
        most_common = min(counts, key=lambda text: (-counts[text], text), default="")
        rows = np.zeros((len(pairs), self.width))
        for row, pair, draft in zip(rows, pairs, drafts, strict=True):
            if draft:
                row[0:2] = len(draft.split()), 1
                row[2] = len(pair.reference.split())
                row[3:5] = 1 / counts[draft], 1
                row[5:7] = draft == most_common, 1
            row[7:9] = not draft or bool(prior_mentions(pair.draft)), 1
        return rows


_MIN_COVERAGE = 0.6
"""Share of a clause's content words that one clause of a report must contain."""
_CLAUSE_END = re.compile(r"[.;:,!?]\s+|\n+|\s+(?=(?:without|but|with no)\b)", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:no|not|without|never|nor|neither|none|free|absent|negative)\b")
_FUNCTION_WORD = re.compile(
    r"\b(?:an?|and|any|appears?|are|as|at|be|been|by|can|definite|evidence|for|from|has|have|"
    r"identified|in|is|its?|noted|of|on|or|present|seen|that|the|there|these|this|to|was|were|"
    r"which|with|within)\b"
)


class Grounding(MeanMetric):
    """Whether the evidence, and the cited reports, support each sentence of a draft.

    By words alone, so independent of the product's own checker and report parser. Follows ALCE
    (Gao et al., EMNLP 2023).
    """

    key = "grounding"
    version = "2"
    measures = (
        mean_measure("unsupported-sentence rate", Direction.LOWER, column=0),
        mean_measure("citation precision", Direction.HIGHER, column=2),
        mean_measure("citation recall", Direction.HIGHER, column=4),
    )
    width = 6
    uses_evidence = True

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 6].

        Raises:
            NotAvailableError: no draft of the run has sentences with their sources.
        """
        if not any(pair.sentences for pair in pairs):
            raise NotAvailableError(
                "needs drafts as sentences with their sources, and the evidence"
            )
        return super().score(pairs)

    def score_pair(self, pair: Pair) -> tuple[float, float, float]:
        """Unsupported share, citation precision and citation recall of one study."""
        if not pair.draft or not pair.sentences:
            return 1.0, 0.0, 0.0
        evidence = {report.report_id: _clauses(report.text) for report in pair.evidence}
        supported = supported_by_cited = correct_citations = citations = 0
        for sentence in pair.sentences:
            clauses = _clauses(sentence.text)
            sources = [evidence[name] for name in sentence.sources if name in evidence]
            supported += _supports(clauses, evidence.values())
            supported_by_cited += _supports(clauses, sources)
            citations += len(sentence.sources)  # one outside the evidence is a wrong citation
            correct_citations += sum(
                any(clause.is_covered(source) for clause in clauses) for source in sources
            )
        count = len(pair.sentences)
        precision = correct_citations / citations if citations else 0.0
        return 1 - supported / count, precision, supported_by_cited / count


@dataclass(frozen=True, slots=True)
class _Clause:
    words: frozenset[str]
    negated: bool

    def is_covered(self, clauses: frozenset["_Clause"]) -> bool:
        """Whether one of these clauses has enough of its words, negated alike."""
        return any(
            self.negated == other.negated
            and len(self.words & other.words) >= _MIN_COVERAGE * len(self.words)
            for other in clauses
        )


def _supports(clauses: frozenset[_Clause], reports: Iterable[frozenset[_Clause]]) -> bool:
    report_clauses = frozenset[_Clause]().union(*reports)
    return bool(clauses) and all(clause.is_covered(report_clauses) for clause in clauses)


@lru_cache(maxsize=20_000)
def _clauses(text: str) -> frozenset[_Clause]:
    """The clauses of a text that have content words."""
    clauses = set()
    for part in _CLAUSE_END.split(text):
        affirmed, negations = _NEGATION.subn(" ", part.lower())
        words = frozenset(re.findall(r"[a-z0-9]+", _FUNCTION_WORD.sub(" ", affirmed)))
        if words:
            clauses.add(_Clause(words, negations > 0))
    return frozenset(clauses)
