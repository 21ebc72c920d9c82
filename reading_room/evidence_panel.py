"""The retrieved reports as cards: verbatim text, similarity, and which sentences cite them."""

from html import escape

from rag.language.sentences import without_list_number
from rag.prediction import Prediction
from rag.schema import Hit, ReportRecord, Section
from reading_room import strings
from reading_room.draft_panel import anchor


def evidence_html(prediction: Prediction | None, *, attribution: str) -> str:
    """HTML of the evidence; sentences that the draft rests on are marked in their reports.

    Args:
        prediction: the state of the study, or None for an empty page.
        attribution: licence line of the collection, shown under the cards.
    """
    if prediction is None or not prediction.hits:
        return f'<div class="hint">{strings.WAITING_EVIDENCE}</div>'
    cards = "".join(_card(hit, prediction) for hit in prediction.hits)
    return (
        f'<div class="evidence">{cards}<p class="licence">{escape(attribution)} '
        f"{strings.VERBATIM}</p></div>"
    )


def _card(hit: Hit, prediction: Prediction) -> str:
    record = hit.record
    quoted, citing = _citations(prediction, record.report_id)
    sections = "".join(_section(record, section, quoted) for section in Section)
    cited = f"cited by {', '.join(citing)}" if citing else strings.NOT_CITED
    seen = strings.COPIES.format(hit.copies) if hit.copies > 1 else ""
    width = max(0, min(100, round(100 * hit.similarity)))
    return (
        f'<article class="card" id="{anchor(record.report_id)}" tabindex="-1">'
        f'<header><span class="rank">{hit.rank}</span> <b>{escape(record.report_id)}</b>'
        f'<span class="similarity" title="cosine similarity of film and report">'
        f'<span class="bar" style="width:{width}%"></span><span>{hit.similarity:.3f}</span></span>'
        f'<span class="copies">{seen}</span><span class="cited">{cited}</span></header>'
        f"{sections}</article>"
    )


def _citations(prediction: Prediction, report_id: str) -> tuple[set[str], list[str]]:
    """Texts of the draft that cite a report, and their places, as F2 or I1."""
    texts: set[str] = set()
    places: list[str] = []
    for section in Section:
        for number, sentence in enumerate(prediction.draft.section(section), 1):
            if report_id in sentence.sources:
                texts.add(_plain(sentence.text))
                places.append(f"{section.value[0].upper()}{number}")
    return texts, places


def _section(record: ReportRecord, section: Section, quoted: set[str]) -> str:
    text = record.section(section)
    if not text:
        return ""
    pieces, last = [], 0
    for span in record.sentences:
        if span.section is section and _plain(text[span.start : span.end]) in quoted:
            pieces += [
                escape(text[last : span.start]),
                f"<mark>{escape(record.sentence(span))}</mark>",
            ]
            last = span.end
    pieces.append(escape(text[last:]))
    return f"<h4>{section.value.capitalize()}</h4><p>{''.join(pieces)}</p>"


def _plain(text: str) -> str:
    return " ".join(without_list_number(text).split()).casefold()
