"""Evidence sentences that a draft may use, grouped under the headings of a report.

A sentence of another patient's report is a candidate only if it could be said of this film: it
compares with no earlier film, gives no measure, advises nothing and hides no word. Candidates of a
heading stand in the order of how many of the reports agree with them, nearest report first, since
a small model leans towards the first one it is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rag.language.sentences import without_list_number
from rag.language.statements import Reading, Topic, read_sentence
from rag.schema import Hit, ReportRecord, Section

# heading -> topics of the sentences under it, in the order of a report
HEADINGS: dict[str, tuple[Topic, ...]] = {
    "heart": (Topic.HEART,),
    "mediastinum": (Topic.MEDIASTINUM,),
    "lungs": (Topic.LUNGS,),
    "pleura": (Topic.PLEURA,),
    "bones": (Topic.BONES, Topic.SOFT_TISSUES, Topic.ABDOMEN),
    "devices": (Topic.DEVICES,),
}
IMPRESSION = "impression"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One distinct sentence.

    Attributes:
        text: verbatim, but for a list number in front.
        sources: reports that hold this very sentence, nearest first.
        votes: how many of the retrieved reports agree with what it states.
    """

    text: str
    sources: tuple[str, ...]
    votes: int


def candidates_by_heading(hits: Sequence[Hit], *, most: int = 6) -> dict[str, list[Candidate]]:
    """Candidates under each heading that has any, best supported first.

    Args:
        hits: the retrieved reports, nearest first.
        most: how many to keep under one heading.
    """
    claims = {hit.record.report_id: _claims(hit.record) for hit in hits}
    found: dict[str, dict[str, tuple[str, Reading, list[str]]]] = {}
    for hit in hits:
        for section, text, reading in _usable(hit.record):
            heading = _heading(section, reading)
            if heading is not None:
                same = found.setdefault(heading, {}).setdefault(_key(text), (text, reading, []))
                if hit.record.report_id not in same[2]:
                    same[2].append(hit.record.report_id)
    order = [*HEADINGS, IMPRESSION]
    ranked: dict[str, list[Candidate]] = {}
    for heading in filter(found.__contains__, order):
        options = [
            Candidate(text, tuple(sources), _votes(reading, sources, claims))
            for text, reading, sources in found[heading].values()
        ]
        ranked[heading] = sorted(options, key=lambda option: -option.votes)[:most]
    return ranked


def _usable(record: ReportRecord) -> list[tuple[Section, str, Reading]]:
    """Sentences that could be said of another film; an impression alone lends its sentences."""
    usable = []
    for span in record.sentences:
        text = without_list_number(record.sentence(span))
        reading = read_sentence(text)
        if reading.placeholder or reading.priors or reading.advice or reading.numbers:
            continue
        if reading.topics <= {Topic.OTHER, Topic.TECHNIQUE}:
            continue
        usable.append((span.section, text, reading))
        if span.section is Section.IMPRESSION and not record.findings:
            usable.append((Section.FINDINGS, text, reading))
    return usable


def _heading(section: Section, reading: Reading) -> str | None:
    if section is Section.IMPRESSION:
        return IMPRESSION
    for heading, topics in HEADINGS.items():
        if reading.topics & set(topics):
            return heading
    return None


def _claims(record: ReportRecord) -> set[tuple[str, str]]:
    """All (finding, polarity) pairs that a report states."""
    return {
        claim
        for span in record.sentences
        for claim in _stated(read_sentence(record.sentence(span)))
    }


def _stated(reading: Reading) -> set[tuple[str, str]]:
    return {(s.finding, s.polarity.value) for s in reading.statements if s.polarity is not None}


def _votes(
    reading: Reading, sources: Sequence[str], claims: dict[str, set[tuple[str, str]]]
) -> int:
    """Reports that state all that the sentence states; those that hold it count in any case."""
    stated = _stated(reading)
    agreeing = {report_id for report_id, all_claims in claims.items() if stated <= all_claims}
    return len(set(sources) | (agreeing if stated else set()))


def _key(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")
