"""The panels about the draft: its sentences, its provenance, and the exports.

Prepares the values of ``draft.html`` (each sentence with verdict, sources and actions) and
``provenance.html`` in ``templates/``, and of ``static/exports.js``.
"""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rag.export import DOCUMENT_FORMATS, FILE_SUFFIXES, as_document
from rag.export.dicom_header import StructuredReportError
from rag.export.text import Export, as_json, as_markdown, as_text
from rag.grounding.claims import contradictions
from rag.grounding.verdicts import DraftCheck, SentenceCheck
from rag.localization import MapMeasures, outline_findings
from rag.prediction import Prediction
from rag.report_nlp.sentences import with_sentences
from rag.report_nlp.statements import Side, parse_sentence
from rag.report_reading import sentence_findings
from rag.review.reviewed_report import ReportLine, ReviewedReport
from rag.schema import PRIOR, DraftSentence, ReportRecord, Section, Status
from reading_room import strings
from reading_room.session import ActionError, Session
from reading_room.templating import issue_text, mark_of, mark_of_image, render

TemplateValues = dict[str, Any]


def draft_html(session: Session, *, map_measures: MapMeasures = MappingProxyType({})) -> str:
    """HTML of the draft so far.

    Args:
        session: with the prediction so far, and the report once the draft is finished.
        map_measures: how often the encoder's finding maps point at the right place.
    """
    prediction, report, check = session.prediction, session.report, session.check
    if prediction is None:
        return render("draft.html", prediction=None)
    prediction = replace(prediction, hits=session.evidence)
    no_draft = {Status.FAILED: strings.NO_DRAFT, Status.ABSTAINED: strings.ABSTAINED}
    refusal = no_draft.get(prediction.status, "")
    shown = report or ReviewedReport.from_draft(prediction.draft)
    editable = report is not None and report.signature is None
    texts = {line.text for line in shown.lines}
    ranks = {hit.record.report_id: rank for rank, hit in enumerate(prediction.hits, 1)}
    return render(
        "draft.html",
        prediction=prediction,
        report=report,
        refusal=refusal,
        sections=_sections(shown, check, prediction, map_measures) if report or not refusal else {},
        editable=editable,
        ranks={PRIOR: PRIOR, **ranks},
        hints=[
            (number, hint)
            for number, hint in enumerate(prediction.hints)
            if editable and hint.sentence.text not in texts
        ],
        votes=check.votes if check and report else (),
    )


def provenance_html(prediction: Prediction | None) -> str:
    """HTML of the model and index ids, the timings, and the prompt as sent."""
    if prediction is None or not prediction.index_id:
        return ""
    rows = {
        "language model": prediction.llm,
        "prompt": f"{prediction.prompt} {prediction.prompt_hash[:16]}",
        "encoder": prediction.encoder_id,
        "index": prediction.index_id,
        "seconds": ", ".join(f"{stage} {time:.2f}" for stage, time in prediction.seconds.items()),
    }
    return render("provenance.html", rows=rows, messages=prediction.messages)


def line_labels(report: ReviewedReport) -> dict[int, str]:
    """Labels of the lines, by key: F2 is the second sentence of the findings."""
    return {
        line.key: f"{section.value[0].upper()}{number}"
        for section in Section
        for number, line in enumerate(report.section(section), 1)
    }


def _sections(
    report: ReviewedReport,
    draft_check: DraftCheck | None,
    prediction: Prediction,
    map_measures: MapMeasures,
) -> dict[str, list[TemplateValues]]:
    """By section, the values of its sentences."""
    checks = draft_check.sentences if draft_check else [None] * len(report.lines)
    labels, contradicted = line_labels(report), _contradictions(report) if draft_check else {}
    records = {hit.record.report_id: hit.record for hit in prediction.hits}
    if prediction.prior:
        prior = ReportRecord(PRIOR, study_id="", patient_id="", findings=prediction.prior.report)
        records[PRIOR] = with_sentences(prior)
    sections: dict[str, list[TemplateValues]] = {section.value: [] for section in Section}
    for line, check in zip(report.lines, checks, strict=True):
        image = prediction.image_mark(DraftSentence(line.text, line.sources)) if check else None
        mark = mark_of(check, line, image)
        issues = check.issues if check and mark.css != "own" else ()
        sources = [records[name] for name in line.sources if name in records]
        values = {
            "line": line,
            "label": labels[line.key],
            "mark": mark,
            "image": mark_of_image(image) if image else None,
            "issues": [issue_text(issue) for issue in issues],
            "quotes": [_quote(record, line, check) for record in sources],
            "contradicted": contradicted.get(line.key, ()),
            "regions": _regions(line.text, prediction, map_measures),
        }
        sections[line.section.value].append(values)
    return sections


def _quote(record: ReportRecord, line: ReportLine, check: SentenceCheck | None) -> TemplateValues:
    """The sentences of a report that support a line, else those about the same findings."""
    if check is None:
        spans = [span for span in record.sentences if line.text.strip() in record.sentence(span)]
    else:
        spans = [item.span for item in check.support if item.report_id == record.report_id]
    note = ""
    if not spans:
        concepts = _concepts(line.text)
        spans = [span for span in record.sentences if _concepts(record.sentence(span)) & concepts]
        note = strings.SAYS_INSTEAD if spans else strings.NOT_MENTIONED
    texts = dict.fromkeys(record.sentence(span) for span in spans)
    return {"report_id": record.report_id, "texts": list(texts), "note": note}


def _concepts(sentence: str) -> frozenset[str]:
    """The findings that a sentence states or denies."""
    return frozenset(
        statement.concept for statement in parse_sentence(sentence).statements if statement.polarity
    )


def _contradictions(report: ReviewedReport) -> dict[int, list[str]]:
    """By key, the labels of the other lines that a line contradicts."""
    lines = [line for section in Section for line in report.section(section)]
    labels = line_labels(report)
    contradicted: dict[int, list[str]] = {}
    for a, b in contradictions([line.text for line in lines]):
        for line, other in ((lines[a], lines[b]), (lines[b], lines[a])):
            contradicted.setdefault(line.key, []).append(labels[other.key])
    return contradicted


def _regions(text: str, prediction: Prediction, map_measures: MapMeasures) -> str:
    """Where the finding maps locate the findings a sentence states, as JSON for the viewer."""
    present, _ = sentence_findings(text)
    sides = {side for statement in parse_sentence(text).statements for side in statement.sides}
    side = sides.pop() if len(sides) == 1 else Side.BILATERAL
    regions = []
    for outline in outline_findings(prediction.maps, present, map_measures, side=side):
        words = strings.UNMEASURED_REGION.format(outline.finding)
        if measure := outline.measure:
            words = strings.FINDING_REGION.format(outline.finding, measure.hits, measure.images)
        regions.append({"words": words, "side": outline.grid, "edges": outline.edges})
    return json.dumps(regions, separators=(",", ":"))


EXPORT_SUFFIXES = {"text": "txt", "markdown": "md", "json": "json", "pdf": "pdf", **FILE_SUFFIXES}
"""File name suffix of each export."""


def exports_value(session: Session, *, file: str = "") -> dict[str, Any]:
    """The value of ``exports.js``: the enabled buttons, and a file to download."""
    has_report = session.report is not None
    is_dicom = bool(session.images) and session.images[0].is_dicom
    forms = [
        form
        for form in strings.EXPORTS
        if has_report and (is_dicom or form not in DOCUMENT_FORMATS)
    ]
    return {"forms": forms, "file": file}


def export_content(export: Export, form: str, session: Session) -> bytes:
    """The content of an exported file.

    Raises:
        ActionError: there is nothing to export, or not in this form.
    """
    texts = {"text": as_text, "markdown": as_markdown, "json": as_json}
    if form in texts:
        return texts[form](export).encode()
    if form == "pdf":
        from rag.export.pdf import as_pdf  # noqa: PLC0415 - reportlab takes half a second

        return as_pdf(export)
    if form not in DOCUMENT_FORMATS:
        raise ActionError(strings.UNKNOWN_ACTION.format(form[:40]))
    if not export.has_text:
        raise ActionError(strings.NOTHING_TO_EXPORT)
    try:
        return as_document(export, form, image=Path(session.images[0].path))
    except StructuredReportError as error:
        raise ActionError(str(error)) from error
