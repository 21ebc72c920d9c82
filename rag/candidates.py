"""Sentences of a pool of reports that may be said of an image, best first for each heading."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.ngrams import NgramPool
from rag.permitted import Permitted
from rag.report_reading import ReportReading, UsableSentence
from rag.schema import Section

Floats = NDArray[np.float64]

COMMON = 0.01
"""A sentence that states no finding is a candidate if this share of the pool holds it."""
_A_HEADING, _A_FINDING = 12, 6
"""How many candidates are kept."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One distinct sentence.

    Attributes:
        sentence: as one of the reports has it.
        reports: places in the pool of the reports that hold it, best fit first.
        typical: mean similarity of its words to those of the pool's reports, weighted.
    """

    sentence: UsableSentence
    reports: tuple[int, ...]
    typical: float


def candidates_of(
    readings: Sequence[ReportReading], ngrams: NgramPool, weights: Floats, permitted: Permitted
) -> list[Candidate]:
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
        and (sentence.present or len(holders[key]) >= COMMON * len(readings))
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
        Candidate(texts[key], tuple(holders[key]), float(value))
        for key, value in zip(kept, typical, strict=True)
    ]
    return _best(found, permitted)


def _best(found: list[Candidate], permitted: Permitted) -> list[Candidate]:
    """The first of each heading, and of each permitted finding."""
    found = sorted(found, key=lambda c: -c.typical)
    kept: dict[int, None] = {}
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for at, candidate in enumerate(found):
        sentence = candidate.sentence
        in_impression = sentence.section is Section.IMPRESSION
        groups["heading", "impression" if in_impression else sentence.heading].append(at)
        for name in sentence.present & permitted.findings:
            groups["finding", name].append(at)
    for (kind, _), places in groups.items():
        kept |= dict.fromkeys(places[: _A_HEADING if kind == "heading" else _A_FINDING])
    return [found[at] for at in sorted(kept)]
