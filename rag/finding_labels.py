"""What a report states that could be said of another image: its usable sentences and their labels.

Reading fifty reports for each image would take longer than all other steps together, so a
store
keeps what was read when it was made (`annotate_labels`); a record that comes without is read here.
Both
ways give the same labels, until the rules of reading change: then the next indexing notes anew.
Does not know images or what is expected of them.
"""

import re
from dataclasses import replace
from functools import lru_cache

from rag.report_nlp.assertion import Polarity
from rag.report_nlp.labeller import NO_FINDING, label_text
from rag.report_nlp.sentences import without_list_number
from rag.report_nlp.statements import ParsedSentence, Topic, read_sentence
from rag.schema import ReportRecord, Section

_DANGLING = re.compile(r"(?:this|these|those|it|they|such|which|that)\b", re.IGNORECASE)
"""A sentence that begins so speaks of one before it, which would not come along."""


def finding_labels_of(record: ReportRecord) -> frozenset[str]:
    """Labels that a report states as present in a finding that a draft could use.

    "No Finding" is one of them where the whole report names nothing abnormal.
    """
    return _read(record) if record.stated is None else frozenset(record.stated)


def annotate_labels(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """The record with what it states noted in it; the last screen of an indexing."""
    return replace(record, stated=tuple(sorted(_read(record)))), ()


def usable_sentences(record: ReportRecord) -> list[tuple[Section, str, ParsedSentence]]:
    """Sentences that could be said of another image; an impression alone lends its sentences."""
    usable = []
    for span in record.sentences:
        text = without_list_number(record.sentence(span))
        reading = read_sentence(text)
        if reading.placeholder or reading.priors or reading.advice or reading.numbers:
            continue
        if reading.topics <= {Topic.OTHER, Topic.TECHNIQUE} or _DANGLING.match(text):
            continue
        usable.append((span.section, text, reading))
        if span.section is Section.IMPRESSION and not record.findings:
            usable.append((Section.FINDINGS, text, reading))
    return usable


@lru_cache(maxsize=8192)  # where the store has not noted it: many images look at the same reports
def _read(record: ReportRecord) -> frozenset[str]:
    positive = {
        label
        for section, _, reading in usable_sentences(record)
        if section is Section.FINDINGS
        for label, polarity in reading.labels.items()
        if polarity is Polarity.POSITIVE
    }
    return frozenset(positive | ({NO_FINDING} & label_text(record.text).keys()))
