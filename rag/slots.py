"""A pool of similar reports and the image's findings -> the sentences of a draft.

The one place where weighting, permission, candidates and consensus come together. Each sentence of
the consensus is a slot; further options are other wordings of the same statement. Knows neither
store nor model. What stays below the reporting threshold but is worth a look becomes a hint.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.consensus import Agreement, consensus
from rag.permitted import Permitted, permit, pool_weights
from rag.report_nlp.labeller import LABELS, NO_FINDING
from rag.report_reading import IMPRESSION, ReportReading, UsableSentence, read_report
from rag.schema import Draft, DraftSentence, Hint, Hit, PredictedFindings, Section
from rag.text_similarity import NgramPool

_COMMON = 0.01
"""A sentence that states no finding is a candidate if this share of the pool holds it."""
_A_HEADING, _A_FINDING = 12, 6
"""How many candidates are kept."""
_CITED = 2
"""A sentence cites so many of the reports that hold it."""
_OPTIONS = 3
_AS_TYPICAL = 0.8
"""Another wording is an option if it is nearly as typical as the consensus's own."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One distinct sentence.

    Attributes:
        sentence: as one of the reports has it.
        reports: places in the pool of the reports that hold it, best fit first.
        typical: mean similarity of its words to those of the pool's reports, weighted.
    """

    sentence: UsableSentence
    reports: tuple[int, ...]
    typical: float


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
    candidates = _candidates(readings, ngrams, weights, permitted)
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


def _options(first: _Candidate, candidates: Sequence[_Candidate]) -> list[_Candidate]:
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


def _cited(candidate: _Candidate, pool: Sequence[Hit]) -> DraftSentence:
    sources = (pool[at].record.report_id for at in candidate.reports[:_CITED])
    return DraftSentence(candidate.sentence.text, tuple(sources))


def _candidates(
    readings: Sequence[ReportReading],
    ngrams: NgramPool,
    weights: NDArray[np.float64],
    permitted: Permitted,
) -> list[_Candidate]:
    """What may be said, the most typical sentences of each heading and of each finding.

    Where every sentence that states a finding has details that the pool does not agree on, those
    with the fewest stay.
    """
    holders: dict[object, list[int]] = {}
    texts: dict[object, UsableSentence] = {}
    for at in np.argsort(-weights, kind="stable"):
        for sentence in readings[at].sentences:
            texts.setdefault(sentence.key, sentence)
            reports = holders.setdefault(sentence.key, [])
            if at not in reports:
                reports.append(int(at))
    excess = {
        key: count
        for key, sentence in texts.items()
        if (count := permitted.excess(sentence)) is not None
        and (sentence.present or len(holders[key]) >= _COMMON * len(readings))
    }
    fewest: dict[str, int] = {}
    for key, count in excess.items():
        if texts[key].section is Section.FINDINGS:
            for name in texts[key].present:
                fewest[name] = min(fewest.get(name, count), count)
    kept = [
        key
        for key, count in excess.items()
        if count <= max((fewest.get(name, 0) for name in texts[key].present), default=0)
    ]
    if not kept:
        return []
    typical = ngrams.typical(ngrams.rows([texts[key].words for key in kept]), weights)
    found = [
        _Candidate(texts[key], tuple(holders[key]), float(value))
        for key, value in zip(kept, typical, strict=True)
    ]
    return _best(sorted(found, key=lambda c: -c.typical), permitted)


def _best(found: Sequence[_Candidate], permitted: Permitted) -> list[_Candidate]:
    """The first of each heading, and of each permitted finding."""
    best, seen = [], Counter[tuple[str, str]]()
    for candidate in found:
        sentence = candidate.sentence
        in_impression = sentence.section is Section.IMPRESSION
        heading = ("heading", IMPRESSION if in_impression else sentence.heading)
        findings = [("finding", name) for name in sentence.present & permitted.findings]
        if seen[heading] < _A_HEADING or any(seen[each] < _A_FINDING for each in findings):
            best.append(candidate)
        seen.update([heading, *findings])
    return best


_HINT_FROM, _HINT_LEAST, _HINTS = 0.5, 0.1, 5
"""A finding is worth a look from this share of the threshold, and at least this probability."""


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
        if stating and judged and p >= max(_HINT_FROM * predicted.threshold, _HINT_LEAST):
            plainest = min(
                stating, key=lambda s: (len(s.present), -len(holders[s]), len(s.details))
            )
            sources = tuple(holders[plainest][:_CITED])
            hints.append(Hint(name, p, DraftSentence(plainest.text, sources)))
    return tuple(hints[:_HINTS])
