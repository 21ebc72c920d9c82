"""Whether a draft's sentences rest on the reports it was made from, and on those it cites.

Measured by words, independent of the product's checker and of its report parser: a number that a
system grades itself by is no number. Follows ALCE's definitions (Gao et al., EMNLP 2023).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from eval.errors import NotAvailableError
from eval.io.studies import CitedSentence, Pair
from eval.metrics.base import (
    Card,
    Direction,
    MetricGroup,
    SufficientStats,
    mean_measure,
    mean_rows,
)

_COVERED = 0.6  # share of a clause's content words that one clause of a report must hold
_CLAUSE_END = re.compile(r"[.;:,!?]\s+|\n+|\s+(?=(?:without|but|with no)\b)", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:no|not|without|never|nor|neither|none|free|absent|negative)\b")
_FUNCTION_WORD = re.compile(
    r"\b(?:an?|and|any|appears?|are|as|at|be|been|by|can|definite|evidence|for|from|has|have|"
    r"identified|in|is|its?|noted|of|on|or|present|seen|that|the|there|these|this|to|was|were|"
    r"which|with|within)\b"
)


class Grounding(MetricGroup):
    """See the card."""

    key = "grounding"
    version = "2"
    width = 6
    reads_evidence = True
    card = Card(
        title="Unsupported sentences, citation precision and recall",
        formula="a sentence is supported by reports if each of its clauses is: 60 % of its content "
        "words stand in one clause of a report, negated or not alike; unsupported-sentence rate "
        "= share of sentences that all evidence together does not "
        "support; citation recall = share that the cited reports support; citation precision = "
        "share of citations that support at least one clause of their sentence",
        words="lower case, letters and digits; function words left out; a clause ends at "
        'punctuation, "but" and "without"',
        convention="mean over studies of each study's share; a missing draft counts 1, 0 and 0; "
        "synonyms count as other words, so that a free paraphrase is called unsupported",
        source="after Gao et al., EMNLP 2023 (ALCE), with words in place of an entailment model",
    )
    measures = (
        mean_measure("unsupported-sentence rate", Direction.LOWER, column=0),
        mean_measure("citation precision", Direction.HIGHER, column=2),
        mean_measure("citation recall", Direction.HIGHER, column=4),
    )

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 6].

        Raises:
            NotAvailableError: no draft of the run has sentences with their sources.
        """
        if not any(pair.sentences for pair in pairs):
            raise NotAvailableError("drafts as sentences with their sources, and the evidence")
        return mean_rows([_grade(pair) for pair in pairs])


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


def _grade(pair: Pair) -> tuple[float, float, float]:
    """Unsupported share, citation precision and citation recall of one study."""
    if not pair.draft or not pair.sentences:
        return 1.0, 0.0, 0.0
    evidence = {report.report_id: _clauses(report.text) for report in pair.evidence}
    everything = frozenset[_Clause]().union(*evidence.values())
    supported = cited = right = citations = 0
    for sentence in pair.sentences:
        sources = [evidence[name] for name in sentence.sources if name in evidence]
        supported += _supports(sentence, everything)
        cited += _supports(sentence, frozenset[_Clause]().union(*sources))
        # a source that is not among the evidence is a citation, and a wrong one
        citations += len(sentence.sources)
        right += sum(_bears_on(sentence, source) for source in sources)
    count = len(pair.sentences)
    return 1 - supported / count, right / citations if citations else 0.0, cited / count


def _supports(sentence: CitedSentence, reports: frozenset[_Clause]) -> bool:
    said = _clauses(sentence.text)
    return bool(said) and all(clause.stands_in(reports) for clause in said)


def _bears_on(sentence: CitedSentence, report: frozenset[_Clause]) -> bool:
    return any(clause.stands_in(report) for clause in _clauses(sentence.text))


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
