"""Evidence sentences that a draft may use, grouped into slots: one sentence a slot makes a draft.

A sentence of another patient's report is a candidate only if it could be said of this image: it
compares with no earlier image, gives no measure, advises nothing, hides no word, and does not say
the opposite of what the image's own labels expect. Each expected finding has a slot of its own, and
each heading of a report one for what is normal. The best candidate of a slot stands first, since a
small model leans towards the first one it is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag.finding_labels import usable_sentences
from rag.predicted_findings import NO_PREDICTION, PredictedFindings
from rag.report_nlp.assertion import Polarity
from rag.report_nlp.labeller import NO_FINDING, label_text
from rag.report_nlp.statements import ParsedSentence, Topic, read_sentence
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
_POSITIVE = Polarity.POSITIVE
_ROOM_FOR_MORE = ("lungs", "pleura")
"""Headings under which one abnormal sentence leaves something normal to be said."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One distinct sentence.

    Attributes:
        text: verbatim, but for a list number in front.
        sources: reports that hold this very sentence, nearest first.
        votes: how many of the retrieved reports agree with what it states.
        reading: what it states.
    """

    text: str
    sources: tuple[str, ...]
    votes: int
    reading: ParsedSentence


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a draft for one sentence.

    Attributes:
        name: an expected label ("pleural effusion"), a heading, or "impression".
        heading: where in the findings it stands; "impression" for the impression.
        options: what may stand there, best first; never empty.
    """

    name: str
    heading: str
    options: tuple[Candidate, ...]

    @property
    def section(self) -> Section:
        """The section of the draft it belongs to."""
        return Section.IMPRESSION if self.heading == IMPRESSION else Section.FINDINGS


def slots_for(
    hits: Sequence[Hit], *, predicted: PredictedFindings = NO_PREDICTION, most: int = 6
) -> list[Slot]:
    """Slots that have at least one candidate, in the order of a report.

    Args:
        hits: the retrieved reports, nearest first.
        predicted: what the image is expected to show; by default nothing is known of it.
        most: how many candidates to keep in one slot.
    """
    grouped = _grouped(hits)
    consistent = {
        heading: [o for o in options if not predicted.conflicts_with(o.reading.labels)]
        for heading, options in grouped.items()
    }
    abnormal = _abnormal_slots(consistent, predicted)
    slots: list[Slot] = []
    for heading in HEADINGS:
        here = [slot for slot in abnormal if slot.heading == heading]
        slots += here
        if not here or heading in _ROOM_FOR_MORE:
            options = consistent.get(heading, [])
            normal = [o for o in options if not predicted.states(o.reading.labels)]
            if here:  # "the lungs are clear" would be wrong beside an opacity
                normal = [o for o in normal if o.reading.labels]
            slots.append(Slot(heading, heading, tuple(normal)))
    impressions = _impressions(consistent.get(IMPRESSION, []), predicted)
    slots.append(Slot(IMPRESSION, IMPRESSION, tuple(impressions)))
    return [Slot(s.name, s.heading, s.options[:most]) for s in slots if s.options]


def _abnormal_slots(
    consistent: Mapping[str, list[Candidate]], predicted: PredictedFindings
) -> list[Slot]:
    """A slot for each expected label that some sentence states, surest label first.

    A sentence that states several of them comes first in all their slots, so that it is chosen once
    for all; a label whose first sentence is another's already has no slot of its own.
    """
    findings = [(h, o) for h, options in consistent.items() if h != IMPRESSION for o in options]
    slots: list[Slot] = []
    said: set[str] = set()
    for label in predicted.positive:
        stating = [
            (heading, option)
            for heading, option in findings
            if option.reading.labels.get(label) is _POSITIVE
        ]
        if stating and label not in said:
            stating.sort(key=lambda at: (-predicted.states(at[1].reading.labels), -at[1].votes))
            said |= {s.label for s in stating[0][1].reading.statements if s.polarity is _POSITIVE}
            slots.append(Slot(label.lower(), stating[0][0], tuple(o for _, o in stating)))
    return slots


def _impressions(options: list[Candidate], predicted: PredictedFindings) -> list[Candidate]:
    """Impressions that name what is expected first; "no acute disease" last where there is some."""

    def rank(option: Candidate) -> tuple[int, bool]:
        normal = NO_FINDING in label_text(option.text)
        return -predicted.states(option.reading.labels), bool(predicted.positive) and normal

    return sorted(options, key=rank)


def _grouped(hits: Sequence[Hit]) -> dict[str, list[Candidate]]:
    """Distinct usable sentences by heading, most votes first, nearer report first."""
    claims = {hit.record.report_id: _claims(hit.record) for hit in hits}
    found: dict[str, dict[str, tuple[str, ParsedSentence, list[str]]]] = {}
    for hit in hits:
        for section, text, reading in usable_sentences(hit.record):
            heading = _heading(section, reading)
            if heading is not None:
                same = found.setdefault(heading, {}).setdefault(_key(text), (text, reading, []))
                if hit.record.report_id not in same[2]:
                    same[2].append(hit.record.report_id)
    grouped = {}
    for heading, texts in found.items():
        options = [
            Candidate(text, tuple(sources), _votes(reading, sources, claims), reading)
            for text, reading, sources in texts.values()
        ]
        grouped[heading] = sorted(options, key=lambda option: -option.votes)
    return grouped


def _heading(section: Section, reading: ParsedSentence) -> str | None:
    if section is Section.IMPRESSION:
        return IMPRESSION
    for heading, topics in HEADINGS.items():
        if reading.topics & set(topics):
            return heading
    return None


def _claims(record: ReportRecord) -> set[tuple[str, str]]:
    """All (finding, polarity) pairs that a report states."""
    readings = (read_sentence(record.sentence(span)) for span in record.sentences)
    return {claim for reading in readings for claim in _stated(reading)}


def _stated(reading: ParsedSentence) -> set[tuple[str, str]]:
    return {(s.finding, s.polarity.value) for s in reading.statements if s.polarity is not None}


def _votes(
    reading: ParsedSentence, sources: Sequence[str], claims: dict[str, set[tuple[str, str]]]
) -> int:
    """Reports that state all that the sentence states; those that hold it count in any case."""
    stated = _stated(reading)
    agreeing = {report_id for report_id, all_claims in claims.items() if stated <= all_claims}
    return len(set(sources) | (agreeing if stated else set()))


def _key(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")
