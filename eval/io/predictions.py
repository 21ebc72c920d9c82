"""Reads what a system predicted: our predictions.jsonl, any JSONL with a report, ReXrank's JSON.

A line needs study_id and a text: ``report`` (or ReXrank's ``model_prediction``) as one text, or
``findings`` and ``impression`` as texts or as lists of cited sentences. A study the system failed
at or abstained from says so in ``status``, or is left out.
"""

import re
from pathlib import Path
from typing import Any

from eval.errors import EvalDataError
from eval.io.entries import Entry, FieldError, checked_length, parse_entries
from eval.io.studies import Evidence, PredictedStudy, Scope, Texts
from rag.schema import DraftSentence, Section, Status

_MADE_BY = ("llm", "prompt", "prompt_hash", "encoder_id", "index_id", "model")
_Sentences = tuple[DraftSentence, ...]
_HEADING = re.compile(r"(?:^|(?<=[\s.]))(findings|impression)\s*:", re.IGNORECASE)


def read_predictions(path: Path) -> dict[str, PredictedStudy]:
    """What the file says of each study, by study id.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every line that is wrong.
    """
    studies = parse_entries(path, _study, key=lambda study: study.study_id, what="study")
    if not studies:
        raise EvalDataError(f"{path} holds no prediction")
    return studies


def _study(entry: Entry) -> PredictedStudy:
    study_id = entry.identifier("study_id", "id") or entry.key
    if not study_id:
        raise FieldError("has no study_id")
    status = entry.values.get("status", Status.OK.value)
    known = [each.value for each in Status if each is not Status.RUNNING]
    if status not in known:
        raise FieldError(f"status is {status!r}, not one of {', '.join(known)}")
    texts = Texts()
    sections: dict[Section, _Sentences] = {}
    if status == Status.OK:
        texts, sections = _draft(entry)
        if not texts.of(Scope.REPORT):
            raise FieldError(
                "the draft is empty: leave the study out, or give it the status 'failed' or "
                "'abstained'"
            )
    made_by = [(name, entry.values.get(name)) for name in _MADE_BY]
    return PredictedStudy(
        study_id=study_id,
        status=Status(status),
        texts=texts,
        sections=sections,
        evidence=_evidence(entry.values.get("evidence")),
        confidence=entry.number("confidence"),
        made_by=tuple((name, value) for name, value in made_by if value and isinstance(value, str)),
        where=entry.where,
    )


def _draft(entry: Entry) -> tuple[Texts, dict[Section, _Sentences]]:
    if "model_prediction" in entry.values:  # ReXrank: the sections beside it are the reference's
        return _whole(entry.text("model_prediction")), {}
    texts, sentences = {}, {}
    for section in Section:
        texts[section.value], sentences[section] = _section(entry, section.value)
    if any(texts.values()):
        return Texts(**texts), sentences
    return _whole(entry.text("report")), sentences


def _section(entry: Entry, name: str) -> tuple[str, _Sentences]:
    given = entry.values.get(name)
    if not isinstance(given, list):
        return entry.text(name), ()
    sentences = tuple(_sentence(item, name) for item in given)
    return checked_length(" ".join(sentence.text for sentence in sentences), name), sentences


def _sentence(item: Any, name: str) -> DraftSentence:
    if not isinstance(item, dict):
        raise FieldError(f"{name} holds a {type(item).__name__}, not a sentence {{...}}")
    sources = item.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise FieldError(f"{name} has sources that are not a list of report ids")
    said = Entry(item).text("text")
    if not said:
        raise FieldError(f"{name} holds an empty sentence")
    return DraftSentence(said, tuple(sources))


def _evidence(given: Any) -> tuple[Evidence, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise FieldError("evidence is not a list of reports {...}")
    entries = map(Entry, given)
    reports = tuple(Evidence(each.identifier("report_id"), each.text("text")) for each in entries)
    if not all(report.report_id for report in reports):
        raise FieldError("evidence holds a report without report_id")
    return reports


def _whole(report: str) -> Texts:
    """A report in one text; in sections, if it is written as "Findings: ... Impression: ..."."""
    headings = list(_HEADING.finditer(report))
    if not headings or report[: headings[0].start()].strip():
        return Texts(report=report)
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    parts = {"findings": "", "impression": ""}
    for heading, end in zip(headings, ends, strict=True):
        name = heading.group(1).lower()
        parts[name] = f"{parts[name]} {report[heading.end() : end].strip()}".strip()
    return Texts(**parts)
