"""Reads what a system predicted: our predictions.jsonl, any JSONL with a report, ReXrank's JSON.

A line needs study_id and a text: ``report`` (or ReXrank's ``model_prediction``) as one text, or
``findings`` and ``impression`` as texts or as lists of cited sentences. A study the system failed
at or abstained from says so in ``status``, or is left out.
"""

import re
from pathlib import Path
from typing import Any

from eval.errors import EvalDataError
from eval.io.fields import FieldError, check_length, identifier, number, text
from eval.io.files import FileEntry, parse_entries
from eval.io.studies import CitedSentence, Evidence, PredictedStudy, Scope, Texts
from rag.schema import Section, Status

_MADE_BY = ("llm", "prompt", "prompt_hash", "encoder_id", "index_id", "model")
_Sentences = tuple[CitedSentence, ...]
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


def _study(entry: FileEntry) -> PredictedStudy:
    values = entry.values
    study_id = identifier(values, "study_id", "id") or entry.key
    if not study_id:
        raise FieldError("has no study_id")
    status = _status(values)
    texts = Texts()
    sections: dict[Section, _Sentences] = {}
    if status is Status.OK:
        texts, sections = _draft(values)
        if not texts.of(Scope.REPORT):
            raise FieldError(
                "the draft is empty: leave the study out, or give it the status 'failed' or "
                "'abstained'"
            )
    return PredictedStudy(
        study_id=study_id,
        status=status,
        texts=texts,
        sections=sections,
        evidence=_evidence(values.get("evidence")),
        confidence=number(values, "confidence"),
        made_by=tuple(
            (name, value)
            for name in _MADE_BY
            if isinstance(value := values.get(name), str) and value
        ),
        where=entry.where,
    )


def _draft(values: dict[str, Any]) -> tuple[Texts, dict[Section, _Sentences]]:
    if "model_prediction" in values:  # ReXrank: the sections beside it are the reference's
        return _whole(text(values, "model_prediction")), {}
    texts, sentences = {}, {}
    for section in Section:
        texts[section.value], sentences[section] = _section(values, section)
    if any(texts.values()):
        return Texts(**texts), sentences
    return _whole(text(values, "report")), sentences


def _status(values: dict[str, Any]) -> Status:
    found = values.get("status", Status.OK.value)
    known = [status.value for status in Status if status is not Status.RUNNING]
    if found not in known:
        raise FieldError(f"status is {found!r}, not one of {', '.join(known)}")
    return Status(found)


def _section(values: dict[str, Any], name: Section) -> tuple[str, _Sentences]:
    given = values.get(name.value)
    if not isinstance(given, list):
        return text(values, name.value), ()
    sentences = tuple(_sentence(item, name) for item in given)
    joined = " ".join(sentence.text for sentence in sentences)
    check_length(joined, name.value)
    return joined, sentences


def _sentence(item: Any, name: Section) -> CitedSentence:
    if not isinstance(item, dict):
        raise FieldError(f"{name.value} holds a {type(item).__name__}, not a sentence {{...}}")
    sources = item.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(source, str) for source in sources):
        raise FieldError(f"{name.value} has sources that are not a list of report ids")
    said = text(item, "text")
    if not said:
        raise FieldError(f"{name.value} holds an empty sentence")
    return CitedSentence(said, tuple(sources))


def _evidence(given: Any) -> tuple[Evidence, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise FieldError("evidence is not a list of reports {...}")
    reports = tuple(Evidence(identifier(item, "report_id"), text(item, "text")) for item in given)
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
