"""A pool of similar reports and the image's findings -> the sentences of a draft.

The image's calibrated probabilities permit findings, the pool's weighted reports their details.
Each sentence of the consensus is a slot; further options are other wordings of the same statement.
What stays below the reporting threshold but is worth a look becomes a hint.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rag.drafting.consensus import Agreement, consensus
from rag.drafting.text_similarity import NgramPool
from rag.report_nlp.labeller import LABELS, NO_FINDING
from rag.report_reading import IMPRESSION, Detail, ReportReading, UsableSentence, parse_report
from rag.schema import Draft, DraftSentence, Hint, Hit, PredictedFindings, Section

_COMMON = 0.01
"""A sentence that states no finding is a candidate if this share of the pool holds it."""
_PER_HEADING, _PER_FINDING = 12, 6
"""How many candidates are kept."""
_CITED = 2
"""A sentence cites so many of the reports that hold it."""
_OPTIONS = 3
_AS_TYPICAL = 0.8
"""Another wording is an option if it is nearly as typical as the consensus's own."""

SHARE_OF_LABEL = 0.4
"""A kind ("scar") may stand for a label ("Lung Opacity") from this share of its probability."""
DETAILS_AGREE = 0.5
"""A detail may be said from this share of the reports that state its finding."""
VOTED = 0.5
"""Share of the pool that permits a finding where the encoder has no finding head."""
SIMILARITY_WEIGHT, FINDINGS_WEIGHT = 5.0, 0.5
"""Of cosine similarity and of the log-likelihood of a report's findings, in its log-weight."""
_DEVICES = "Support Devices"
_SUREST = 0.005

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Permitted:
    """What may be said of one image.

    Attributes:
        findings: names that may be stated: CheXpert-14 labels and lexicon ids.
        required: those of them that a draft should state where it can.
        undeniable: names that may not be denied.
        agreed: details that the pool agrees on.
    """

    findings: frozenset[str]
    required: frozenset[str]
    undeniable: frozenset[str]
    agreed: frozenset[Detail]

    def excess(self, sentence: UsableSentence) -> int | None:
        """How many details of a sentence nobody agreed on; None if it may not be said at all."""
        if not sentence.present <= self.findings or sentence.denied & self.undeniable:
            return None
        return len(sentence.details - self.agreed)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One distinct sentence, as one of the reports has it."""

    sentence: UsableSentence
    reports: tuple[int, ...]  # places in the pool of those that hold it, best fit first
    typical: float  # mean similarity of its words to those of the pool's reports, weighted


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a draft for one sentence.

    Attributes:
        name: its heading, numbered where there are several: "heart", "lungs", "lungs 2".
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
    readings = [parse_report(hit.record) for hit in pool]
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
    repeated = (s for s in chosen if s.key not in by_sentence)  # findings, in the impression
    for sentence in repeated:
        found = by_sentence[Section.FINDINGS, sentence.plain]
        by_sentence[sentence.key] = replace(found, sentence=sentence)
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
    readings: Sequence[ReportReading], ngrams: NgramPool, weights: Floats, permitted: Permitted
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
        if seen[heading] < _PER_HEADING or any(seen[each] < _PER_FINDING for each in findings):
            best.append(candidate)
        seen.update([heading, *findings])
    return best


def pool_weights(
    similarities: Sequence[float], readings: Sequence[ReportReading], predicted: PredictedFindings
) -> Floats:
    """How well each report of the pool fits the image, by its text's nearness and its findings.

    Returns:
        float64 [reports], sums to 1.
    """
    names = [name for name in predicted.probabilities if name != NO_FINDING]
    p = np.array([predicted.probabilities[name] for name in names])
    p = np.clip(p, _SUREST, 1 - _SUREST)
    there = np.array([[name in reading.present for name in names] for reading in readings], bool)
    likelihood = np.where(there.reshape(len(readings), len(names)), np.log(p), np.log(1 - p)).sum(1)
    fit = SIMILARITY_WEIGHT * np.asarray(similarities, float) + FINDINGS_WEIGHT * likelihood
    weights = np.exp(fit - fit.max())
    return np.asarray(weights / weights.sum(), float)


def permit(
    predicted: PredictedFindings, readings: Sequence[ReportReading], weights: Floats
) -> Permitted:
    """What image and pool together let a draft say."""
    share: defaultdict[str, float] = defaultdict(float)
    detail: defaultdict[Detail, float] = defaultdict(float)
    kinds: defaultdict[str, set[str]] = defaultdict(set)
    for reading, weight in zip(readings, weights, strict=True):
        for name in reading.present:
            share[name] += weight
        for each in reading.details:
            detail[each] += weight
        for name, label in reading.labels:
            kinds[label].add(name)
    probabilities, positive = predicted.probabilities, predicted.positive
    if not probabilities:
        probabilities, positive = share, tuple(n for n in share if share[n] >= VOTED)
    labels = [name for name in positive if name in LABELS]
    labelled = set().union(*kinds.values()) if kinds else set()
    alone = {n for n in positive if n not in LABELS and n not in labelled}
    permitted = {*labels, *alone}
    for label in labels:
        permitted |= _kinds(label, kinds[label], share, probabilities)
    agreed = {d for d, weight in detail.items() if weight >= DETAILS_AGREE * share[d[0]]}
    return Permitted(
        findings=frozenset(permitted),
        required=frozenset(alone.union(labels)),
        undeniable=frozenset(permitted) | predicted.undeniable,
        agreed=frozenset(agreed),
    )


def _kinds(
    label: str, kinds: set[str], share: Mapping[str, float], probabilities: Mapping[str, float]
) -> set[str]:
    """Lexicon findings that may stand for a label; of devices only those that agree enough."""
    found = {kind: probabilities.get(kind, share[kind]) for kind in kinds}
    enough = {k for k, p in found.items() if p >= SHARE_OF_LABEL * probabilities[label]}
    if not enough and found and label != _DEVICES:
        enough = {max(found, key=lambda kind: found[kind])}
    return enough


_HINT_FROM, _HINT_LEAST, _HINTS = 0.5, 0.1, 5
"""A finding is worth a look from this share of the threshold, and at least this probability."""


def hints_for(pool: Sequence[Hit], predicted: PredictedFindings, draft: Draft) -> tuple[Hint, ...]:
    """Findings below the threshold, most probable first, that some report of the pool can word."""
    readings = [(hit.record.report_id, parse_report(hit.record)) for hit in pool]
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
