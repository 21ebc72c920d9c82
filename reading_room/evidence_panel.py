"""The retrieved reports as cards: verbatim text, similarity, what they share with the draft.

Prepares what ``templates/evidence.html`` shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag.prediction import Prediction
from rag.report_nlp.sentences import without_list_number
from rag.review.reviewed_report import Line, ReviewedReport
from rag.schema import Hit, ReportRecord, Section
from reading_room import strings
from reading_room.comparison import compare, sentences_of
from reading_room.draft_panel import places
from reading_room.rank_changes import RankChanges
from reading_room.templating import render


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence of a report with its number, or the characters between two."""

    text: str
    number: int | None = None
    tag: str = "span"


@dataclass(frozen=True, slots=True)
class _Card:
    hit: Hit
    record: ReportRecord
    css: str
    move: str
    dropped: bool
    ruled_out: bool
    cited_by: Sequence[str]
    notes: Sequence[str]
    sections: Sequence[tuple[str, list[_Piece]]]
    comparison: Sequence[tuple[str, Sequence[str]]]


def evidence_html(
    prediction: Prediction | None,
    report: ReviewedReport | None = None,
    *,
    attribution: str,
    ruled_out: frozenset[str] = frozenset(),
    changes: RankChanges | None = None,
) -> str:
    """HTML of the evidence; sentences that the draft quotes are marked in their reports.

    Args:
        prediction: the state of the study, or None for an empty page.
        report: the draft under review; without one, the prediction's own draft counts.
        attribution: licence line of the collection, shown under the cards.
        ruled_out: reports the reader called irrelevant.
        changes: how a region changed their ranking.
    """
    hits = prediction.hits if prediction else ()
    if prediction and report is None:
        report = ReviewedReport.of(prediction.draft)
    report = report or ReviewedReport()
    return render(
        "evidence.html",
        cards=[_card(hit, report, ruled_out, changes) for hit in hits],
        locked=report.signature is not None,
        attribution=attribution,
        ruled_out=ruled_out,
        changes=changes,
    )


def _card(
    hit: Hit, report: ReviewedReport, ruled_out: frozenset[str], changes: RankChanges | None
) -> _Card:
    record, place = hit.record, places(report)
    css, move = changes.mark(record.report_id) if changes else ("", "")
    out = record.report_id in ruled_out
    lines = [line for line in report.lines if record.report_id in line.sources]
    copies = [strings.COPIES.format(hit.copies)] if hit.copies > 1 else []
    return _Card(
        hit=hit,
        record=record,
        css=" ".join(filter(None, ["card", "ruled-out" if out else "", css])),
        move=move,
        dropped=css == "dropped",
        ruled_out=out,
        cited_by=[place[line.key] for line in lines],
        notes=copies + [hit.why] * bool(hit.why),
        sections=[
            (section.value, list(_pieces(record, section, lines)))
            for section in Section
            if record.section(section)
        ],
        comparison=_comparison(record, report),
    )


def _pieces(record: ReportRecord, section: Section, lines: Sequence[Line]) -> Iterator[_Piece]:
    """The section's text, cut at its sentences."""
    text, last = record.section(section), 0
    quoted = {_normalized(line.drafted or line.text) for line in lines}
    for number, span in enumerate(record.sentences):
        if span.section is section:
            yield _Piece(text[last : span.start])
            sentence = record.sentence(span)
            yield _Piece(sentence, number, "mark" if _normalized(sentence) in quoted else "span")
            last = span.end
    yield _Piece(text[last:])


def _comparison(record: ReportRecord, report: ReviewedReport) -> list[tuple[str, tuple[str, ...]]]:
    if not report.lines:
        return []
    texts = [record.sentence(span) for span in record.sentences] or sentences_of(record.text)
    found = compare(texts, [line.text for line in report.lines])
    return [(name, words) for name in strings.COMPARISON if (words := getattr(found, name))]


def _normalized(text: str) -> str:
    return " ".join(without_list_number(text).split()).casefold()
