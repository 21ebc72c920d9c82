"""Whether a draft's sentences rest on the reports it was made from, and on those it cites.

An entailment check by rule, independent of the checker that the product drafts with: a number that
a system grades itself by is no number. Follows ALCE's definitions (Gao et al., EMNLP 2023).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from eval.errors import NotAvailableError
from eval.io.studies import CitedSentence, Pair
from eval.metrics.base import Card, Direction, Setup, SufficientStats, mean_measure, mean_rows
from eval.rules_version import rules_id
from eval.text import Cleaning
from rag.report_nlp.assertion import Polarity
from rag.report_nlp.statements import Side, read_sentence

_BOTH = frozenset({Side.BILATERAL})
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


MEASURES = (
    mean_measure("unsupported-sentence rate", Direction.LOWER, column=0),
    mean_measure("citation precision", Direction.HIGHER, column=2),
    mean_measure("citation recall", Direction.HIGHER, column=4),
)


class Grounding:
    """See the card."""

    key = "grounding"
    width = 6
    batch = 1_000
    whole_run = False
    reads_evidence = True
    card = Card(
        title="Unsupported sentences, citation precision and recall",
        formula="a sentence is supported by reports if it stands in one of them word for word, or "
        "if every finding it states (with polarity and side) is stated there too; "
        "unsupported-sentence rate = share of sentences that all evidence together does not "
        "support; citation recall = share that the cited reports support; citation precision = "
        "share of citations that state at least one finding of their sentence, or the sentence",
        words="none: findings are read by cxr-rag's rules; word for word ignores case and "
        "punctuation",
        convention="mean over studies of each study's share; a missing draft counts 1, 0 and 0; a "
        "sentence without a finding is supported only word for word",
        source="after Gao et al., EMNLP 2023 (ALCE), with rules in place of an entailment model",
    )
    measures = MEASURES

    def __init__(self) -> None:
        self.version = f"1-{rules_id()}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row a pair: float64 [N, 6].

        Raises:
            NotAvailableError: no draft of the run has sentences with their sources.
        """
        if not any(pair.sentences for pair in pairs):
            raise NotAvailableError("drafts as sentences with their sources, and the evidence")
        return mean_rows([_grade(pair) for pair in pairs])


def card(_: Cleaning) -> Card:
    """What this family measures."""
    return Grounding.card


def family(_: Setup) -> Grounding:
    """Grounding; needs no setup."""
    return Grounding()


@dataclass(frozen=True, slots=True)
class _Claim:
    finding: str
    polarity: Polarity
    sides: frozenset[Side]

    def follows_from(self, stated: Iterable["_Claim"]) -> bool:
        """Whether a report states it, on every side that is meant.

        "No effusion" speaks of both sides, "an effusion" of either one.
        """
        return any(
            self.finding == other.finding
            and self.polarity == other.polarity
            and self._sides_follow(other)
            for other in stated
        )

    def _sides_follow(self, other: "_Claim") -> bool:
        if other.sides in {_BOTH, self.sides}:
            return True
        if self.polarity is Polarity.NEGATIVE:
            return not other.sides
        return self.sides < other.sides


@dataclass(frozen=True, slots=True)
class _Content:
    """What a text says: its sentences in plain words, and its findings."""

    sentences: frozenset[str]
    claims: frozenset[_Claim]


def _grade(pair: Pair) -> tuple[float, float, float]:
    """Unsupported share, citation precision and citation recall of one study."""
    if not pair.draft or not pair.sentences:
        return 1.0, 0.0, 0.0
    evidence = {report.report_id: _read(report.text) for report in pair.evidence}
    everything = list(evidence.values())
    supported = cited = right = citations = 0
    for sentence in pair.sentences:
        sources = [evidence[name] for name in sentence.sources if name in evidence]
        supported += _supports(sentence, everything)
        cited += _supports(sentence, sources)
        # a source that is not among the evidence is a citation, and a wrong one
        citations += len(sentence.sources)
        right += sum(_bears_on(sentence, source) for source in sources)
    count = len(pair.sentences)
    return 1 - supported / count, right / citations if citations else 0.0, cited / count


def _supports(sentence: CitedSentence, reports: Sequence[_Content]) -> bool:
    said = _read(sentence.text)
    if any(said.sentences <= report.sentences for report in reports):
        return True
    stated = frozenset[_Claim]().union(*(report.claims for report in reports))
    return bool(said.claims) and all(claim.follows_from(stated) for claim in said.claims)


def _bears_on(sentence: CitedSentence, report: _Content) -> bool:
    said = _read(sentence.text)
    return said.sentences <= report.sentences or any(
        claim.follows_from(report.claims) for claim in said.claims
    )


@lru_cache(maxsize=20_000)
def _read(text: str) -> _Content:
    sentences = [part for part in _SENTENCE_END.split(text) if part.strip()]
    return _Content(
        frozenset(filter(None, map(_plain, sentences))),
        frozenset(
            _Claim(statement.finding, statement.polarity, statement.sides)
            for sentence in sentences
            for statement in read_sentence(sentence).statements
            if statement.polarity is not None
        ),
    )


def _plain(sentence: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", sentence.lower()))
