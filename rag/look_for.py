"""What stays below the reporting threshold but is worth a look, each with a sentence to insert."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rag.predicted_findings import PredictedFindings
from rag.report_nlp.labeller import LABELS, NO_FINDING
from rag.report_reading import UsableSentence, read_report
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
    readings = [(hit.record.report_id, read_report(hit.record)) for hit in pool]
    labelled = {name for _, reading in readings for name, _ in reading.labels}
    drafted = {sentence.text for sentence in (*draft.findings, *draft.impression)}
    said, holders = set[str](), defaultdict[UsableSentence, list[str]](list)
    for report_id, reading in readings:
        for sentence in reading.sentences:
            if sentence.text in drafted:
                said |= sentence.present
            if sentence.section is Section.FINDINGS:
                holders[sentence].append(report_id)
    unfit = said | predicted.not_assessable | {NO_FINDING}
    hints = []
    for name, p in sorted(predicted.probabilities.items(), key=lambda item: -item[1]):
        stating = [sentence for sentence in holders if name in sentence.present]
        judged = name not in unfit and (name in LABELS or name not in labelled)
        if stating and judged and p >= max(_FROM * predicted.threshold, _LEAST):
            plainest = min(
                stating, key=lambda s: (len(s.present), -len(holders[s]), len(s.details))
            )
            sources = tuple(holders[plainest][:_CITED])
            hints.append(Hint(name, p, DraftSentence(plainest.text, sources)))
    return tuple(hints[:_MOST])
