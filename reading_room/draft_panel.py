"""The draft as HTML: each sentence followed by links to the reports it rests on."""

from html import escape

from rag.prediction import Prediction
from rag.schema import DraftSentence, Section, Status
from reading_room import strings


def draft_html(prediction: Prediction | None) -> str:
    """HTML of the draft as far as it has come; None stands for an empty page."""
    if prediction is None:
        return f'<div class="hint">{strings.WAITING_DRAFT}</div>'
    if prediction.status in (Status.FAILED, Status.ABSTAINED):
        return (
            f'<div class="no-draft" role="alert"><b>{strings.NO_DRAFT}: '
            f"{escape(prediction.error or prediction.status.value)}</b>"
            f"<p>{escape(prediction.reason)}</p></div>"
        )
    places = {hit.record.report_id: hit.rank for hit in prediction.hits}
    running = prediction.status is Status.RUNNING
    parts = [
        _section(section, prediction.draft.section(section), places, running=running)
        for section in Section
    ]
    notes = "".join(f'<p class="note">{escape(text)}</p>' for text in prediction.warnings)
    progress = f'<p class="progress">{_progress(prediction)}</p>' if running else ""
    return f'<div class="draft" aria-live="polite">{"".join(parts)}{notes}{progress}</div>'


def _section(
    section: Section, sentences: tuple[DraftSentence, ...], places: dict[str, int], *, running: bool
) -> str:
    if sentences:
        body = "".join(_sentence(sentence, places) for sentence in sentences)
    else:
        body = (
            '<p class="hint">…</p>' if running else f'<p class="hint">{strings.EMPTY_SECTION}</p>'
        )
    return f"<section><h3>{section.value.capitalize()}</h3>{body}</section>"


def _sentence(sentence: DraftSentence, places: dict[str, int]) -> str:
    links = "".join(
        f'<a class="cite" href="#{anchor(report_id)}" title="{escape(report_id)}"'
        f' aria-label="source {escape(report_id)}">{places.get(report_id, "?")}</a>'
        for report_id in sentence.sources
    )
    return f'<p class="sentence">{escape(sentence.text)} {links}</p>'


def anchor(report_id: str) -> str:
    """The id of a report's card on the page."""
    return "report-" + escape(report_id, quote=True)


def _progress(prediction: Prediction) -> str:
    if prediction.messages:
        return strings.WRITING
    return strings.WRITING if prediction.hits else strings.SEARCHING
