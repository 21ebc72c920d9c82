"""How drafts look as a set, and whether their sentences rest on the evidence."""

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
from rag.schema import DraftSentence


class Diversity(RulesMetric):
    """How long, how varied, how often about an earlier image.

    These catch what overlap measures reward: one safe report for every image. A row: words, drafts,
    words of the reference; then pairs of sum and count.
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
            row[7:9] = not draft or bool(prior_mentions(pair.draft)), 1
        return rows


_COVERED = 0.6  # share of a clause's content words that one clause of a report must hold
_CLAUSE_END = re.compile(r"[.;:,!?]\s+|\n+|\s+(?=(?:without|but|with no)\b)", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:no|not|without|never|nor|neither|none|free|absent|negative)\b")
_FUNCTION_WORD = re.compile(
    r"\b(?:an?|and|any|appears?|are|as|at|be|been|by|can|definite|evidence|for|from|has|have|"
    r"identified|in|is|its?|noted|of|on|or|present|seen|that|the|there|these|this|to|was|were|"
    r"which|with|within)\b"
)


class Grounding(MeanMetric):
    """Whether sentences rest on the reports that a draft was made from, and on those it cites.

    Measured by words, independent of the product's checker and of its report parser: a number that
    a system grades itself by is no number. Follows ALCE's definitions (Gao et al., EMNLP 2023).
    """

    key = "grounding"
    version = "2"
    measures = (
        mean_measure("unsupported-sentence rate", Direction.LOWER, column=0),
        mean_measure("citation precision", Direction.HIGHER, column=2),
        mean_measure("citation recall", Direction.HIGHER, column=4),
    )
    width = 6
    reads_evidence = True

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 6].

        Raises:
            NotAvailableError: no draft of the run has sentences with their sources.
        """
        if not any(pair.sentences for pair in pairs):
            raise NotAvailableError("drafts as sentences with their sources, and the evidence")
        return super().score(pairs)

    def one(self, pair: Pair) -> tuple[float, float, float]:
        """Unsupported share, citation precision and citation recall of one study."""
        if not pair.draft or not pair.sentences:
            return 1.0, 0.0, 0.0
        evidence = {report.report_id: _clauses(report.text) for report in pair.evidence}
        supported = cited = right = citations = 0
        for sentence in pair.sentences:
            sources = [evidence[name] for name in sentence.sources if name in evidence]
            supported += _supports(sentence, evidence.values())
            cited += _supports(sentence, sources)
            # a source that is not among the evidence is a citation, and a wrong one
            citations += len(sentence.sources)
            said = _clauses(sentence.text)
            right += sum(any(clause.stands_in(source) for clause in said) for source in sources)
        count = len(pair.sentences)
        return 1 - supported / count, right / citations if citations else 0.0, cited / count


@dataclass(frozen=True, slots=True)
class _Clause:
    words: frozenset[str]
    negated: bool

    def stands_in(self, clauses: frozenset["_Clause"]) -> bool:
        """Whether one of these clauses says it, by its words."""
        return any(
            self.negated == other.negated
            and len(self.words & other.words) >= _COVERED * len(self.words)
            for other in clauses
        )


def _supports(sentence: DraftSentence, reports: Iterable[frozenset[_Clause]]) -> bool:
    said, known = _clauses(sentence.text), frozenset[_Clause]().union(*reports)
    return bool(said) and all(clause.stands_in(known) for clause in said)


@lru_cache(maxsize=20_000)
def _clauses(text: str) -> frozenset[_Clause]:
    """The clauses of a text that have content words."""
    found = set()
    for part in _CLAUSE_END.split(text):
        affirmed, negations = _NEGATION.subn(" ", part.lower())
        words = frozenset(re.findall(r"[a-z0-9]+", _FUNCTION_WORD.sub(" ", affirmed)))
        if words:
            found.add(_Clause(words, negations > 0))
    return frozenset(found)
