"""Screens a report before it is indexed: what names somebody is replaced by XXXX.

XXXX is what de-identified collections (Open-I) have in such places; whatever reads reports here
knows it. A `rag.index.plan.Screen`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rag.privacy.identifiers import Found, find_identifiers, mask
from rag.report_nlp.sentences import with_sentences
from rag.schema import ReportRecord

TOKEN = "XXXX"  # noqa: S105 - what stands for a removed name
_SECTIONS = ("findings", "impression", "indication", "comparison")


@dataclass(frozen=True, slots=True)
class MaskedPlace:
    """What indexing would replace in a report: shown to its owner before anything is lost.

    Attributes:
        section: the record's field.
        kind: what it is taken for.
        text: the words that go; ``before`` and ``after`` are those beside them.
    """

    report_id: str
    section: str
    kind: str
    text: str
    before: str
    after: str

    def __str__(self) -> str:
        return (
            f"{self.report_id} {self.section} ({self.kind}): "
            f"…{self.before}[{self.text}]{self.after}…"
        )


_BESIDE = 25  # characters


def masked_places(record: ReportRecord) -> Iterator[MaskedPlace]:
    """Every place of a report that `mask_identifiers` would replace, in reading order."""
    for name in _SECTIONS:
        text: str = getattr(record, name)
        for found in _found(record, text):
            yield MaskedPlace(
                record.report_id,
                name,
                found.kind.value,
                text[found.start : found.end],
                text[max(0, found.start - _BESIDE) : found.start],
                text[found.end : found.end + _BESIDE],
            )


def mask_identifiers(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """A report without identifiers, and what was found in it, without quoting it.

    A report without any is returned as the same object.
    """
    clean: dict[str, str] = {}
    problems = []
    for name in _SECTIONS:
        text: str = getattr(record, name)
        found = _found(record, text)
        if found:
            clean[name] = mask(text, found, with_=TOKEN)
            counts = Counter(one.kind.value for one in found)
            kinds = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
            problems.append(f"{name}: masked {kinds}")
    if not clean:
        return record, ()
    return with_sentences(replace(record, **clean)), tuple(problems)  # type: ignore[arg-type]


def _found(record: ReportRecord, text: str) -> tuple[Found, ...]:
    return find_identifiers(text, known={record.patient_id, record.study_id, record.report_id})
