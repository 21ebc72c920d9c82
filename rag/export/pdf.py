"""A draft or a signed report as PDF: A4 pages that can be searched and copied from.

The only importer of reportlab. Owns layout and letters; what stands in it is `rag.export.text`'s.
"""

import io
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from xml.sax.saxutils import escape

from rag.export.text import Export, sections_of
from rag.grounding.image_marks import ImageVerdict
from rag.grounding.verdicts import Verdict
from rag.schema import DraftSentence

_FONT, _BOLD = "Vera", "VeraBd"
"""Come with reportlab; the fonts that every reader has know no letter beyond western Europe."""


def as_pdf(what: Export) -> bytes:
    """The report as a PDF file; on every page the mark of a draft, or who signed it."""
    from reportlab.lib.pagesizes import A4  # noqa: PLC0415 - half a second
    from reportlab.lib.units import mm  # noqa: PLC0415
    from reportlab.platypus import SimpleDocTemplate  # noqa: PLC0415

    known = _fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        topMargin=24 * mm,
        bottomMargin=20 * mm,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        title="Chest X-ray report",
        author=_spelt(what.report.signature.name, known) if what.report.signature else what.notice,
        creator="cxr-rag",
        invariant=True,
    )

    def furniture(canvas: Any, _: Any) -> None:
        canvas.saveState()
        canvas.setFont(_BOLD, 10)
        canvas.drawCentredString(A4[0] / 2, A4[1] - 14 * mm, _spelt(what.notice, known))
        canvas.setFont(_FONT, 7)
        canvas.drawString(20 * mm, 11 * mm, _spelt(what.signed or what.notice, known))
        canvas.drawRightString(A4[0] - 20 * mm, 11 * mm, str(canvas.getPageNumber()))
        canvas.restoreState()

    story = list(_story(what, lambda text: escape(_spelt(text, known))))
    document.build(story, onFirstPage=furniture, onLaterPages=furniture)
    return buffer.getvalue()


def _story(what: Export, spelt: Callable[[str], str]) -> Iterator[Any]:
    from reportlab.lib.styles import ParagraphStyle  # noqa: PLC0415 - as above
    from reportlab.platypus import Paragraph, Spacer  # noqa: PLC0415

    body = ParagraphStyle("body", fontName=_FONT, fontSize=10, leading=14, spaceAfter=3)
    title = ParagraphStyle("title", body, fontName=_BOLD, fontSize=15, leading=20, spaceAfter=8)
    head = ParagraphStyle("head", body, fontName=_BOLD, spaceBefore=9)
    small = ParagraphStyle("small", body, fontSize=7.5, leading=10)
    found, report = what.prediction, what.report
    yield Paragraph(f"Chest X-ray {spelt(found.file)}", title)
    if found.reason:
        yield Paragraph(f"No draft ({spelt(found.status.value)}): {spelt(found.reason)}", body)
    alarms = _alarms(what)
    for name, lines in sections_of(what) if what.has_text else ():
        yield Paragraph(name, head)
        for line in lines:
            sources = f" [{', '.join(line.sources)}]" if line.sources else ""
            yield Paragraph(spelt(line.text + sources + alarms.get(line.key, "")), body)
    for addendum in report.addenda:
        yield Paragraph("Addendum", head)
        yield Paragraph(spelt(addendum.text), body)
        yield Paragraph(spelt(f"{addendum.signature.name}, {addendum.signature.at}"), small)
    if what.signed:
        yield Spacer(1, 8)
        yield Paragraph(spelt(what.signed), head)
    if found.hits:
        yield Paragraph("Evidence: reports of other patients, cosine similarity", head)
    for hit in found.hits:
        text = " ".join(hit.record.text.split())
        yield Paragraph(spelt(f"{hit.record.report_id}  {hit.similarity:.3f}  {text}"), small)
    yield Spacer(1, 8)
    for remark in (*found.warnings, *what.provenance):
        yield Paragraph(spelt(remark), small)


def _alarms(what: Export) -> dict[int, str]:
    """What stands behind a sentence that its evidence does not carry, until it is signed."""
    check = what.prediction.check
    if check is None or what.report.signature is not None:
        return {}
    drafted = [line for line in what.report.lines if line.drafted]
    verdicts = {each.sentence.text: each.verdict for each in check.sentences}
    alarms = {
        line.key: f"  ({verdicts[line.text].value.upper()})"
        for line in drafted
        if verdicts.get(line.text, Verdict.SUPPORTED) is not Verdict.SUPPORTED
    }
    for line in what.report.lines:
        mark = what.prediction.image_mark(DraftSentence(line.text, line.sources))
        if mark and mark.verdict is ImageVerdict.UNLIKELY:
            alarms[line.key] = alarms.get(line.key, "") + f"  ({str(mark).upper()})"
    return alarms


def _fonts() -> frozenset[int]:
    """Register both fonts; the letters they know."""
    from reportlab.pdfbase import pdfmetrics  # noqa: PLC0415 - as above
    from reportlab.pdfbase.ttfonts import TTFont  # noqa: PLC0415

    for name in (_FONT, _BOLD):
        pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))
    return frozenset(pdfmetrics.getFont(_FONT).face.charToGlyph)


def _spelt(text: str, known: frozenset[int]) -> str:
    """Text in letters that the font has: accents it lacks fall away, foreign scripts become "?"."""

    def spell(letter: str) -> str:
        if ord(letter) in known:
            return letter
        plain = unicodedata.normalize("NFKD", letter)[0]
        return plain if ord(plain) in known else "?"

    return "".join(map(spell, text))
