"""Screens a report before it is indexed: what names somebody is replaced by XXXX.

XXXX is what de-identified collections (Open-I) have in such places; whatever reads reports here
knows it. A `rag.index.plan.Screen`.
"""

from collections import Counter
from dataclasses import replace

from rag.privacy.identifiers import find_identifiers, mask
from rag.report_nlp.sentences import with_sentences
from rag.schema import ReportRecord

TOKEN = "XXXX"  # noqa: S105 - what stands for a removed name
_SECTIONS = ("findings", "impression", "indication", "comparison")


def mask_identifiers(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """A report without identifiers, and what was found in it, without quoting it.

    A report without any is returned as the same object.
    """
    known = {record.patient_id, record.study_id, record.report_id}
    clean: dict[str, str] = {}
    problems = []
    for name in _SECTIONS:
        text: str = getattr(record, name)
        found = find_identifiers(text, known=known)
        if found:
            clean[name] = mask(text, found, with_=TOKEN)
            counts = Counter(one.kind.value for one in found)
            kinds = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
            problems.append(f"{name}: masked {kinds}")
    if not clean:
        return record, ()
    return with_sentences(replace(record, **clean)), tuple(problems)  # type: ignore[arg-type]
