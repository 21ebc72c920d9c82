"""The retrieved reports as cards: verbatim text, similarity, what they share with the draft.

Owns what stands in the panel; ``static/evidence.js`` makes it answer to mouse and keys.
"""

from collections.abc import Sequence
from html import escape

from rag.prediction import Prediction
from rag.report_nlp.sentences import without_list_number
from rag.review.reviewed_report import Line, ReviewedReport
from rag.schema import Hit, ReportRecord, Section, Span
from reading_room import strings
from reading_room.comparison import Comparison, compare, sentences_of
from reading_room.draft_panel import anchor
from reading_room.rank_changes import RankChanges


def evidence_html(
    prediction: Prediction | None,
    report: ReviewedReport | None = None,
    *,
    attribution: str,
    ruled_out: frozenset[str] = frozenset(),
    shift: RankChanges | None = None,
) -> str:
    """HTML of the evidence; sentences that the draft rests on are marked in their reports.

    Args:
        prediction: the state of the study, or None for an empty page.
        report: the draft in its reader's hands; without one, the prediction's own draft counts.
        attribution: licence line of the collection, shown under the cards.
        ruled_out: reports the reader called irrelevant.
        shift: what pointing at a region has changed among them.
    """
    if prediction is None or not prediction.hits:
        return f'<div class="hint">{strings.WAITING_EVIDENCE}</div>'
    report = report or ReviewedReport.of(prediction.draft)
    locked = report.signature is not None
    now: list[str] = []
    gone: list[str] = []
    for hit in prediction.hits:
        mark = shift.mark(hit.record.report_id) if shift else ("", "")
        card = _card(hit, report, ruled_out, locked=locked, mark=mark)
        (gone if mark[0] == "left" else now).append(card)
    left = f'<h3 class="gone">{strings.NO_LONGER}</h3>{"".join(gone)}' if gone else ""
    pointed = _pointed(shift, locked=locked) if shift and shift.pointed else ""
    again = "" if pointed else _again(ruled_out, locked=locked)
    return (
        f'<div class="evidence">{pointed}{again}{"".join(now)}{left}'
        f'<p class="licence">{escape(attribution)} {strings.VERBATIM}</p></div>'
    )


def _again(ruled_out: frozenset[str], *, locked: bool) -> str:
    if not ruled_out or locked:
        return ""
    text = strings.DRAFT_AGAIN.format(len(ruled_out))
    return f'<button type="button" class="again" data-act="again">{text}</button>'


def _pointed(shift: RankChanges, *, locked: bool) -> str:
    """What the region has changed, and what can be done about it."""
    again = "" if shift.used or locked else _button("again", strings.DRAFT_WITH_REGION)
    undo = "" if locked else _button("unpoint-last", strings.UNDO_REGION, strings.UNDO_REGION_HINT)
    clear = "" if locked else _button("unpoint", strings.CLEAR_REGIONS, strings.CLEAR_REGIONS_HINT)
    return (
        f'<section class="pointed" role="status"><b>{strings.POINTED}</b> '
        f'<span class="experimental" title="{strings.EXPERIMENTAL_HINT}">'
        f"{strings.EXPERIMENTAL}</span>"
        f"<p>{shift.summary}</p><div>{again}{undo}{clear}</div></section>"
    )


def _button(act: str, words: str, hint: str = "") -> str:
    title = f' title="{hint}"' if hint else ""
    return f'<button type="button" data-act="{act}"{title}>{words}</button>'


def _card(
    hit: Hit,
    report: ReviewedReport,
    ruled_out: frozenset[str],
    *,
    locked: bool,
    mark: tuple[str, str] = ("", ""),
) -> str:
    record = hit.record
    lines = [line for line in report.lines if record.report_id in line.sources]
    out = record.report_id in ruled_out
    sections = "".join(_section(record, section, lines, locked=locked) for section in Section)
    css = " ".join(filter(None, ["card", "out" if out else "", mark[0]]))
    return (
        f'<article class="{css}" id="{anchor(record.report_id)}" '
        f'tabindex="-1" aria-label="{strings.REPORT} {escape(record.report_id)}">'
        f"{_header(hit, report, lines, out=out, locked=locked, move=mark[1])}{sections}"
        f"{_comparison(record, report)}</article>"
    )


def _header(
    hit: Hit, report: ReviewedReport, lines: Sequence[Line], *, out: bool, locked: bool, move: str
) -> str:
    report_id = escape(hit.record.report_id)
    cited = (
        f"{strings.CITED_BY} {', '.join(_places(report, lines))}" if lines else strings.NOT_CITED
    )
    notes = [strings.COPIES.format(hit.copies)] if hit.copies > 1 else []
    notes += [escape(hit.why)] if hit.why else []
    width = max(0, min(100, round(100 * hit.similarity)))
    word = strings.RULED_OUT if out else strings.RULE_OUT
    rule_out = (
        ""
        if locked
        else f'<button type="button" data-act="rule-out" data-report="{report_id}" '
        f'aria-pressed="{str(out).lower()}">{word}</button>'
    )
    moved = f'<span class="move">{move}</span>' if move else ""
    return (
        f'<header><span class="rank">{hit.rank}</span> <b>{report_id}</b>{moved}'
        f'<span class="similarity" title="{strings.SIMILARITY}">'
        f'<span class="bar" style="width:{width}%"></span><span>{hit.similarity:.3f}</span></span>'
        f'<span class="cited">{cited}</span>{rule_out}'
        f'<span class="copies">{"; ".join(notes)}</span></header>'
    )


def _places(report: ReviewedReport, lines: Sequence[Line]) -> list[str]:
    """Where the lines stand, as F2 or I1."""
    return [
        f"{line.section.value[0].upper()}{report.section(line.section).index(line) + 1}"
        for line in lines
    ]


def _section(record: ReportRecord, section: Section, lines: Sequence[Line], *, locked: bool) -> str:
    text = record.section(section)
    if not text:
        return ""
    quoted = {_plain(line.drafted or line.text) for line in lines}
    pieces, last = [], 0
    for number, span in enumerate(record.sentences):
        if span.section is not section:
            continue
        pieces.append(escape(text[last : span.start]))
        pieces.append(_sentence(record, span, number, quoted, locked=locked))
        last = span.end
    pieces.append(escape(text[last:]))
    return f"<h4>{section.value.capitalize()}</h4><p>{''.join(pieces)}</p>"


def _sentence(
    record: ReportRecord, span: Span, number: int, quoted: set[str], *, locked: bool
) -> str:
    """A sentence of a report; a click, or Enter, puts it into the draft with its source."""
    text = record.sentence(span)
    tag = "mark" if _plain(text) in quoted else "span"
    offer = (
        ""
        if locked
        else f' data-use="{number}" data-report="{escape(record.report_id)}" tabindex="0" '
        f'role="button" title="{strings.USE_SENTENCE}"'
    )
    return f'<{tag} class="said"{offer}>{escape(text)}</{tag}>'


def _comparison(record: ReportRecord, report: ReviewedReport) -> str:
    if not report.lines:
        return ""
    texts = [record.sentence(span) for span in record.sentences] or sentences_of(record.text)
    found = compare(texts, [line.text for line in report.lines])
    rows = "".join(_row(found, name) for name in strings.COMPARISON)
    return f'<ul class="comparison">{rows}</ul>' if rows else ""


def _row(found: Comparison, name: str) -> str:
    words: tuple[str, ...] = getattr(found, name)
    sign, title = strings.COMPARISON[name]
    if not words:
        return ""
    return (
        f'<li class="{name}"><span aria-hidden="true">{sign}</span> <b>{title}</b> '
        f"{escape(', '.join(words))}</li>"
    )


def _plain(text: str) -> str:
    return " ".join(without_list_number(text).split()).casefold()
