"""A pool of similar reports and the image's predicted findings -> the sentences of a draft.

Each sentence of the consensus is a slot; its other options are other wordings of the same content.
Findings below the reporting threshold that deserve a look become hints.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rag.drafting.consensus import ExpectedUtility, select_sentences
from rag.drafting.constraints import Constraints, constrain, weigh_reports
from rag.drafting.text_similarity import ReferenceNgrams
from rag.report_nlp.labeller import LABELS, NO_FINDING
from rag.report_reading import IMPRESSION, ParsedReport, UsableSentence, parse_report
from rag.schema import Draft, DraftSentence, Hint, Hit, PredictedFindings, Section

_MIN_POOL_SHARE = 0.01
"""Share of the pool's reports that must contain a sentence that states no finding."""
_MAX_PER_HEADING, _MAX_PER_FINDING = 12, 6
"""Candidates kept."""
_MAX_SOURCES = 2
_MAX_OPTIONS = 3
_MIN_RELATIVE_CENTRALITY = 0.8
"""Of another wording, relative to the one that the consensus chose."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One distinct sentence of the pool.

    Attributes:
        reports: indices in the pool of the reports that contain it, best fit first.
        centrality: weighted mean cosine of its n-grams with the pool's reports.
    """

    sentence: UsableSentence
    reports: tuple[int, ...]
    centrality: float


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a draft for one sentence.

    Attributes:
        name: its heading, numbered from the second on: "heart", "lungs", "lungs 2".
        options: wordings of the sentence, the consensus's own first; never empty.
        votes: for each option, how many reports of the pool contain it.
    """

    name: str
    section: Section
    options: tuple[DraftSentence, ...]
    votes: tuple[int, ...]


def consensus_slots(pool: Sequence[Hit], predicted: PredictedFindings) -> list[Slot]:
    """The draft that pool and image agree on, in the order of a report; empty for an empty pool."""
    if not pool:
        return []
    reports = [parse_report(hit.record) for hit in pool]
    weights = weigh_reports([hit.similarity for hit in pool], reports, predicted)
    constraints = constrain(predicted, reports, weights)
    ngrams = ReferenceNgrams([report.words for report in reports])
    candidates = _find_candidates(reports, ngrams, weights, constraints)
    if not candidates:
        return []
    sentences = [candidate.sentence for candidate in candidates]
    utility = ExpectedUtility(sentences, [report.words for report in reports], ngrams, weights)
    chosen = select_sentences(sentences, utility, required=constraints.required)
    by_sentence = {candidate.sentence.key: candidate for candidate in candidates}
    slots, count = [], Counter[str]()
    for sentence in chosen:
        # an impression may repeat a sentence that is a candidate for the findings only
        found = by_sentence.get(sentence.key) or by_sentence[Section.FINDINGS, sentence.normalized]
        options = _wordings(replace(found, sentence=sentence), candidates)
        heading = IMPRESSION if sentence.section is Section.IMPRESSION else sentence.heading
        count[heading] += 1
        slots.append(
            Slot(
                name=heading if count[heading] == 1 else f"{heading} {count[heading]}",
                section=sentence.section,
                options=tuple(_cite(option, pool) for option in options),
                votes=tuple(len(option.reports) for option in options),
            )
        )
    return slots


def _wordings(chosen: _Candidate, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The chosen candidate, then other wordings of the same content."""
    others = [
        other
        for other in candidates
        if other.sentence.content == chosen.sentence.content
        and other.sentence.key != chosen.sentence.key
        and other.centrality >= _MIN_RELATIVE_CENTRALITY * chosen.centrality
    ]
    return [chosen, *sorted(others, key=lambda other: -other.centrality)][:_MAX_OPTIONS]


def _cite(candidate: _Candidate, pool: Sequence[Hit]) -> DraftSentence:
    sources = (pool[i].record.report_id for i in candidate.reports[:_MAX_SOURCES])
    return DraftSentence(candidate.sentence.text, tuple(sources))


def _find_candidates(
    reports: Sequence[ParsedReport],
    ngrams: ReferenceNgrams,
    weights: Floats,
    constraints: Constraints,
) -> list[_Candidate]:
    """Sentences that may be said: the most central of each heading and of each finding.

    A sentence with details that the pool does not agree on is a candidate only if no other states
    one of its findings with fewer such details.
    """
    sentences: dict[object, UsableSentence] = {}
    sources: dict[object, list[int]] = {}
    for i in np.argsort(-weights, kind="stable"):
        for sentence in reports[i].sentences:
            sentences.setdefault(sentence.key, sentence)
            holders = sources.setdefault(sentence.key, [])
            if i not in holders:
                holders.append(int(i))
    permitted = {
        key: sentence
        for key, sentence in sentences.items()
        if constraints.permit(sentence)
        and (sentence.present or len(sources[key]) >= _MIN_POOL_SHARE * len(reports))
    }
    excess = {key: len(s.details - constraints.details) for key, s in permitted.items()}
    fewest: dict[str, int] = {}
    for key, sentence in permitted.items():
        if sentence.section is Section.FINDINGS:
            for name in sentence.present:
                fewest[name] = min(fewest.get(name, excess[key]), excess[key])
    kept = [
        key
        for key, sentence in permitted.items()
        if excess[key] <= max((fewest.get(name, 0) for name in sentence.present), default=0)
    ]
    if not kept:
        return []
    centrality = ngrams.centrality(ngrams.count([sentences[key].words for key in kept]), weights)
    candidates = [
        _Candidate(sentences[key], tuple(sources[key]), float(value))
        for key, value in zip(kept, centrality, strict=True)
    ]
    return _limit(sorted(candidates, key=lambda c: -c.centrality), constraints)


def _limit(ranked: Sequence[_Candidate], constraints: Constraints) -> list[_Candidate]:
    """The first of each heading and of each finding that may be stated."""
    kept, count = [], Counter[tuple[str, str]]()
    for candidate in ranked:
        sentence = candidate.sentence
        in_impression = sentence.section is Section.IMPRESSION
        heading = ("heading", IMPRESSION if in_impression else sentence.heading)
        findings = [("finding", name) for name in sentence.present & constraints.stateable]
        wanted = any(count[finding] < _MAX_PER_FINDING for finding in findings)
        if wanted or count[heading] < _MAX_PER_HEADING:
            kept.append(candidate)
        count.update([heading, *findings])
    return kept


_MIN_SHARE_OF_THRESHOLD, _MIN_HINT_PROBABILITY, _MAX_HINTS = 0.5, 0.1, 5


def hints_for(pool: Sequence[Hit], predicted: PredictedFindings, draft: Draft) -> tuple[Hint, ...]:
    """Findings below the threshold, most probable first, that some report of the pool words."""
    reports = [(hit.record.report_id, parse_report(hit.record)) for hit in pool]
    labelled = {name for _, report in reports for name, _ in report.labels}
    drafted = {sentence.text for sentence in (*draft.findings, *draft.impression)}
    stated, sources = set[str](), defaultdict[UsableSentence, list[str]](list)
    for report_id, report in reports:
        for sentence in report.sentences:
            if sentence.text in drafted:
                stated |= sentence.present
            if sentence.section is Section.FINDINGS:
                sources[sentence].append(report_id)
    excluded = stated | predicted.not_assessable | {NO_FINDING}
    min_probability = max(_MIN_SHARE_OF_THRESHOLD * predicted.threshold, _MIN_HINT_PROBABILITY)
    hints = []
    for name, p in sorted(predicted.probabilities.items(), key=lambda item: -item[1]):
        if p < min_probability or name in excluded or (name not in LABELS and name in labelled):
            continue
        wordings = [sentence for sentence in sources if name in sentence.present]
        if wordings:
            plainest = min(
                wordings, key=lambda s: (len(s.present), -len(sources[s]), len(s.details))
            )
            cited = tuple(sources[plainest][:_MAX_SOURCES])
            hints.append(Hint(name, p, DraftSentence(plainest.text, cited)))
    return tuple(hints[:_MAX_HINTS])
