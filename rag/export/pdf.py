"""A draft or a signed report as PDF: A4 pages that can be searched and copied from.

The only importer of reportlab. Owns layout and letters; what stands in it is `rag.export.text`'s.
"""

import io
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph, SimpleDocTemplate

from rag.export.text import Export, Style, export_blocks

_FONT, _BOLD = "Vera", "VeraBd"
"""Come with reportlab; the fonts that every reader has know no letter beyond western Europe."""


def as_pdf(what: Export) -> bytes:
    """The report as a PDF file; on every page the mark of a draft, or who signed it."""
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
    body = ParagraphStyle("body", fontName=_FONT, fontSize=10, leading=14, spaceAfter=3)
    styles = {
        Style.TITLE: ParagraphStyle(
            "title", body, fontName=_BOLD, fontSize=15, leading=20, spaceAfter=8
        ),
        Style.HEADING: ParagraphStyle("heading", body, fontName=_BOLD, spaceBefore=9),
        Style.SENTENCE: body,
        Style.SMALL: ParagraphStyle("small", body, fontSize=7.5, leading=10),
    }
    for style, text in export_blocks(what):
        yield Paragraph(spelt(text), styles[style])


def _fonts() -> frozenset[int]:
    """Register both fonts; the letters they know."""
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
