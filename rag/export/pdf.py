"""A draft or a signed report as PDF: A4 pages with searchable text.

The only importer of reportlab. Owns layout and fonts; the content comes from `rag.export.text`.
"""

import io
import unicodedata
from functools import partial
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
"""Come with reportlab; PDF's standard fonts only have western European letters."""


def as_pdf(export: Export) -> bytes:
    """The content of the PDF file; every page shows the notice, and the signer if signed."""
    printable = partial(_printable, glyphs=_register_fonts())
    signature = export.report.signature
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        topMargin=24 * mm,
        bottomMargin=20 * mm,
        leftMargin=20 * mm,
        rightMargin=20 * mm,
        title="Chest X-ray report",
        author=printable(signature.name) if signature else export.notice,
        creator="cxr-rag",
        invariant=True,
    )

    def draw_header_and_footer(canvas: Any, _: Any) -> None:
        canvas.saveState()
        canvas.setFont(_BOLD, 10)
        canvas.drawCentredString(A4[0] / 2, A4[1] - 14 * mm, printable(export.notice))
        canvas.setFont(_FONT, 7)
        canvas.drawString(20 * mm, 11 * mm, printable(export.signed or export.notice))
        canvas.drawRightString(A4[0] - 20 * mm, 11 * mm, str(canvas.getPageNumber()))
        canvas.restoreState()

    styles = _styles()
    story = [
        Paragraph(escape(printable(text)), styles[style]) for style, text in export_blocks(export)
    ]
    document.build(story, onFirstPage=draw_header_and_footer, onLaterPages=draw_header_and_footer)
    return buffer.getvalue()


def _styles() -> dict[Style, ParagraphStyle]:
    body = ParagraphStyle("body", fontName=_FONT, fontSize=10, leading=14, spaceAfter=3)
    return {
        Style.TITLE: ParagraphStyle(
            "title", body, fontName=_BOLD, fontSize=15, leading=20, spaceAfter=8
        ),
        Style.HEADING: ParagraphStyle("heading", body, fontName=_BOLD, spaceBefore=9),
        Style.SENTENCE: body,
        Style.SMALL: ParagraphStyle("small", body, fontSize=7.5, leading=10),
    }


def _register_fonts() -> frozenset[int]:
    """Register both fonts; returns the code points they have glyphs for."""
    for name in (_FONT, _BOLD):
        pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))
    return frozenset(pdfmetrics.getFont(_FONT).face.charToGlyph)


def _printable(text: str, glyphs: frozenset[int]) -> str:
    """Drop accents that the font lacks; other missing letters become "?"."""

    def replace(letter: str) -> str:
        if ord(letter) in glyphs:
            return letter
        plain = unicodedata.normalize("NFKD", letter)[0]
        return plain if ord(plain) in glyphs else "?"

    return "".join(map(replace, text))
