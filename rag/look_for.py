"""What stays below the reporting threshold but is worth a look, each with a sentence to insert."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rag.predicted_findings import PredictedFindings
from rag.report_nlp.labeller import LABELS, NO_FINDING
from rag.report_reading import ReportReading, UsableSentence, read_report
from rag.schema import Draft, DraftSentence, Hit, Section

_FROM = 0.5
"""Share of the threshold from which a finding is worth a look."""
_LEAST = 0.1
_MOST = 5
_CITED = 2


@dataclass(frozen=True, slots=True)
class Hint:
    """A finding that the draft does not state.

    Attributes:
        finding: CheXpert-14 name, or id of the lexicon.
        probability: in the image.
        sentence: one that would state it, with its sources.
    """

    finding: str
    probability: float
    sentence: DraftSentence


def hints_for(pool: Sequence[Hit], predicted: PredictedFindings, draft: Draft) -> tuple[Hint, ...]:
    """Findings below the threshold, most probable first, that some report of the pool can word."""
    readings = [read_report(hit.record) for hit in pool]
    labelled = {name for reading in readings for name, _ in reading.labels}
    said = {
        name
        for sentence in (*draft.findings, *draft.impression)
        for name in _present(sentence, pool, readings)
    }
    least = max(_FROM * predicted.threshold, _LEAST)
    worth = [
        name
        for name, p in sorted(predicted.probabilities.items(), key=lambda item: -item[1])
        if p >= least
        and name not in said | predicted.not_assessable | {NO_FINDING}
        and (name in LABELS or name not in labelled)
    ]
    found = ((name, _sentence(name, pool, readings)) for name in worth)
    return tuple(
        Hint(name, predicted.probabilities[name], sentence)
        for name, sentence in found
        if sentence is not None
    )[:_MOST]


def _present(
    sentence: DraftSentence, pool: Sequence[Hit], readings: Sequence[ReportReading]
) -> frozenset[str]:
    for hit, reading in zip(pool, readings, strict=True):
        if hit.record.report_id in sentence.sources:
            for usable in reading.sentences:
                if usable.text == sentence.text:
                    return usable.present
    return frozenset()


def _sentence(
    name: str, pool: Sequence[Hit], readings: Sequence[ReportReading]
) -> DraftSentence | None:
    """The sentence that most reports state only this finding with, and where it stands."""
    holders: Counter[str] = Counter()
    plain: dict[str, UsableSentence] = {}
    sources: dict[str, list[str]] = {}
    for hit, reading in zip(pool, readings, strict=True):
        for sentence in reading.sentences:
            if name in sentence.present and sentence.section is Section.FINDINGS:
                holders[sentence.text] += 1
                plain[sentence.text] = sentence
                sources.setdefault(sentence.text, []).append(hit.record.report_id)
    if not plain:
        return None

    def rank(text: str) -> tuple[int, int, int]:
        sentence = plain[text]
        return len(sentence.present), -holders[text], len(sentence.details)

    best = min(plain, key=rank)
    return DraftSentence(best, tuple(sources[best][:_CITED]))
