"""The draft: each sentence with its verdict, its sources and what the reader can do with it.

Prepares what ``templates/draft.html`` shows; ``provenance.html``: what it was made with;
``state.html``: what keeps it from being signed; and the exports, whose buttons are in
``static/exports.js``.
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
from rag.review.reviewed_report import ReportLine, ReviewedReport, State
from rag.schema import PRIOR, DraftSentence, ReportRecord, Section, Status
from reading_room import strings
from reading_room.session import ControllerError, Session
from reading_room.templating import image_icon, issue_words, mark_of, render

View = dict[str, Any]
"""What a template shows of one thing."""


def draft_html(session: Session, *, map_measures: MapMeasures = MappingProxyType({})) -> str:
    """HTML of the draft as far as it has come.

    Args:
        session: with the prediction so far, and the draft under review once it is finished.
        map_measures: how often the encoder's finding maps point at the right place.
    """
    prediction, report, check = session.prediction, session.report, session.check
    if prediction is None:
        return render("draft.html", prediction=None)
    prediction = replace(prediction, hits=session.evidence)
    titles = {Status.FAILED: strings.NO_DRAFT, Status.ABSTAINED: strings.ABSTAINED}
    refused = titles.get(prediction.status, "")
    shown = report or ReviewedReport.from_draft(prediction.draft)
    editable = report is not None and report.signature is None
    written = {line.text for line in shown.lines}
    sections = _sections(shown, check, prediction, map_measures)
    ranks = {hit.record.report_id: rank for rank, hit in enumerate(prediction.hits, 1)}
    return render(
        "draft.html",
        prediction=prediction,
        report=report,
        refused=refused,
        sections=sections if report or not refused else {},
        editable=editable,
        ranks={PRIOR: PRIOR, **ranks},
        hints=[
            (number, hint)
            for number, hint in enumerate(prediction.hints)
            if editable and hint.sentence.text not in written
        ],
        votes=check.votes if check and report else (),
    )


def provenance_html(prediction: Prediction | None) -> str:
    """A table of ids and seconds, then the prompt as it was sent."""
    if prediction is None or not prediction.index_id:
        return ""
    rows = {
        "language model": prediction.llm,
        "prompt": f"{prediction.prompt} {prediction.prompt_hash[:16]}",
        "encoder": prediction.encoder_id,
        "index": prediction.index_id,
        "seconds": ", ".join(f"{stage} {took:.2f}" for stage, took in prediction.seconds.items()),
    }
    return render("provenance.html", rows=rows, messages=prediction.messages)


def places(report: ReviewedReport) -> dict[int, str]:
    """Where each line stands, by its key: F2 is the second sentence of the findings."""
    return {
        line.key: f"{section.value[0].upper()}{number}"
        for section in Section
        for number, line in enumerate(report.section(section), 1)
    }


def _sections(
    report: ReviewedReport,
    check: DraftCheck | None,
    prediction: Prediction,
    map_measures: MapMeasures,
) -> dict[str, list[View]]:
    """For each section its sentences, with all that is shown of them."""
    checks = check.sentences if check else [None] * len(report.lines)
    place, clashes = places(report), _clashes(report) if check else {}
    records = {hit.record.report_id: hit.record for hit in prediction.hits}
    if prediction.prior:
        prior = ReportRecord(PRIOR, study_id="", patient_id="", findings=prediction.prior.report)
        records[PRIOR] = with_sentences(prior)
    sections: dict[str, list[View]] = {section.value: [] for section in Section}
    for line, each in zip(report.lines, checks, strict=True):
        image = prediction.image_mark(DraftSentence(line.text, line.sources)) if each else None
        mark = mark_of(each, line, image)
        sources = [records[name] for name in line.sources if name in records]
        view = {
            "line": line,
            "place": place[line.key],
            "mark": mark,
            "image": image_icon(image) if image else None,
            "issues": [issue_words(i) for i in each.issues] if each and mark.css != "own" else [],
            "quotes": [_quote(record, line, each) for record in sources],
            "clashes": clashes.get(line.key, ()),
            "regions": _regions(line.text, prediction, map_measures),
        }
        sections[line.section.value].append(view)
    return sections


def _quote(record: ReportRecord, line: ReportLine, check: SentenceCheck | None) -> View:
    """What supports the sentence, else what the report says about the same findings."""
    if check is None:
        spans = [s for s in record.sentences if line.text.strip() in record.sentence(s)]
    else:
        spans = [s.span for s in check.support if s.report_id == record.report_id]
    note = ""
    if not spans:
        same = _concepts(line.text)
        spans = [span for span in record.sentences if _concepts(record.sentence(span)) & same]
        note = strings.SAYS_INSTEAD if spans else strings.NOTHING_LIKE_IT
    texts = dict.fromkeys(record.sentence(span) for span in spans)
    return {"report_id": record.report_id, "texts": list(texts), "note": note}


def _concepts(sentence: str) -> frozenset[str]:
    """Findings about which a sentence says something."""
    return frozenset(
        statement.concept for statement in parse_sentence(sentence).statements if statement.polarity
    )


def _clashes(report: ReviewedReport) -> dict[int, list[str]]:
    """For each line that contradicts others, their places."""
    lines = [line for section in Section for line in report.section(section)]
    place = places(report)
    found: dict[int, list[str]] = {}
    for a, b in contradictions([line.text for line in lines]):
        for one, other in ((lines[a], lines[b]), (lines[b], lines[a])):
            found.setdefault(one.key, []).append(place[other.key])
    return found


def _regions(text: str, prediction: Prediction, map_measures: MapMeasures) -> str:
    """Where the frontal image would show what a sentence states, as JSON for the viewer."""
    present, _ = sentence_findings(text)
    sides = {side for each in parse_sentence(text).statements for side in each.sides}
    side = sides.pop() if len(sides) == 1 else Side.BILATERAL
    regions = []
    for each in outline_findings(prediction.maps, present, map_measures, side=side):
        words = strings.UNMEASURED_REGION.format(each.finding)
        if each.measured:
            measured = each.measured
            words = strings.FINDING_REGION.format(each.finding, measured.hits, measured.images)
        regions.append({"words": words, "side": each.side, "edges": each.edges})
    return json.dumps(regions, separators=(",", ":"))


FORMATS = {"text": "txt", "markdown": "md", "json": "json", "pdf": "pdf", **FILE_SUFFIXES}
"""Ending of the file of each export."""

_BADGES = {
    State.DRAFT: ("○", "draft"),
    State.EDITED: ("✎", "edited"),
    State.SIGNED: ("■", "signed"),
    State.ADDENDUM: ("■+", "addendum"),
}


def state_html(report: ReviewedReport | None) -> str:
    """Where the report stands, and what keeps it from the next state."""
    return render("state.html", report=report, badges=_BADGES)


def exports_value(session: Session, *, file: str = "") -> dict[str, Any]:
    """What ``exports.js`` is told: which buttons work, and a file to download."""
    ready = session.report is not None
    dicom = bool(session.images) and session.images[0].dicom
    forms = [form for form in strings.EXPORTS if ready and (dicom or form not in DOCUMENT_FORMATS)]
    return {"forms": forms, "file": file}


def export_content(what: Export, form: str, session: Session) -> bytes:
    """The file of an export.

    Raises:
        ControllerError: there is nothing to export, or not in this form.
    """
    texts = {"text": as_text, "markdown": as_markdown, "json": as_json}
    if form in texts:
        return texts[form](what).encode()
    if form == "pdf":
        from rag.export.pdf import as_pdf  # noqa: PLC0415 - reportlab takes half a second

        return as_pdf(what)
    if form not in DOCUMENT_FORMATS:
        raise ControllerError(strings.UNKNOWN_STEP.format(form[:40]))
    if not what.has_text:
        raise ControllerError(strings.NOTHING_TO_EXPORT)
    try:
        return as_document(what, form, image=Path(session.images[0].path))
    except StructuredReportError as error:
        raise ControllerError(str(error)) from error
