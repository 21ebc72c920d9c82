"""A pool of similar reports and the image's findings -> the sentences of a draft.

The one place where weighting, permission, candidates and consensus come together. Each sentence of
the consensus is a slot; further options are other wordings of the same statement. Knows neither
store nor model.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rag.candidates import Candidate, candidates_of
from rag.consensus import Agreement, consensus
from rag.ngrams import NgramPool
from rag.permitted import permit, pool_weights
from rag.predicted_findings import PredictedFindings
from rag.report_reading import IMPRESSION, read_report
from rag.schema import DraftSentence, Hit, Section

_CITED = 2
"""A sentence cites so many of the reports that hold it."""
_OPTIONS = 3
_AS_TYPICAL = 0.8
"""Another wording is an option if it is nearly as typical as the consensus's own."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a draft for one sentence.

    Attributes:
        name: its heading, numbered where there are several: "heart", "lungs", "lungs 2".
        section: of the draft.
        options: what may stand there, the consensus's choice first; never empty.
        votes: how many reports of the pool hold each option's words.
    """

    name: str
    section: Section
    options: tuple[DraftSentence, ...]
    votes: tuple[int, ...]


def slots_for(pool: Sequence[Hit], predicted: PredictedFindings) -> list[Slot]:
    """The draft that pool and image agree on, in the order of a report; empty for an empty pool."""
    if not pool:
        return []
    readings = [read_report(hit.record) for hit in pool]
    weights = pool_weights([hit.similarity for hit in pool], readings, predicted)
    permitted = permit(predicted, readings, weights)
    ngrams = NgramPool([reading.words for reading in readings])
    candidates = candidates_of(readings, ngrams, weights, permitted)
    if not candidates:
        return []
    sentences = [candidate.sentence for candidate in candidates]
    agreement = Agreement(sentences, [reading.words for reading in readings], ngrams, weights)
    chosen = consensus(sentences, agreement, required=permitted.required)
    by_sentence = {candidate.sentence.key: candidate for candidate in candidates}
    slots, named = [], Counter[str]()
    for sentence in chosen:
        options = _options(by_sentence[sentence.key], candidates)
        heading = IMPRESSION if sentence.section is Section.IMPRESSION else sentence.heading
        named[heading] += 1
        slots.append(
            Slot(
                name=heading if named[heading] == 1 else f"{heading} {named[heading]}",
                section=sentence.section,
                options=tuple(_cited(option, pool) for option in options),
                votes=tuple(len(option.reports) for option in options),
            )
        )
    return slots


def _options(first: Candidate, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first and other wordings of what it says."""
    said = first.sentence
    others = [
        other
        for other in candidates
        if other.sentence.section is said.section
        and other.sentence.heading == said.heading
        and other.sentence.present == said.present
        and other.sentence.denied == said.denied
        and other.sentence.details == said.details
        and other.sentence.key != said.key
        and other.typical >= _AS_TYPICAL * first.typical
    ]
    return [first, *sorted(others, key=lambda other: -other.typical)][:_OPTIONS]


def _cited(candidate: Candidate, pool: Sequence[Hit]) -> DraftSentence:
    sources = (pool[at].record.report_id for at in candidate.reports[:_CITED])
    return DraftSentence(candidate.sentence.text, tuple(sources))
