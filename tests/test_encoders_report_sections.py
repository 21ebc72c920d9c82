"""Headings in all their styles are found; those within the findings do not end them."""

import pytest

from encoders.report_sections import Sections, parse_sections

EXPECTED = Sections("Lungs are clear.", "Normal film.", "Fever.", "")


@pytest.mark.parametrize(
    "text",
    [
        # on one line
        "INDICATION: Fever. FINDINGS: Lungs are clear. IMPRESSION: Normal film.",
        "Indication: Fever. Findings: Lungs are clear. Impression: Normal film.",
        "Reason for exam: Fever. Report: Lungs are clear. Conclusion: Normal film.",
        "HISTORY Fever. FINDINGS Lungs are clear. IMPRESSION Normal film.",
        # in bold
        "**INDICATION:** Fever. **FINDINGS:** Lungs are clear. **IMPRESSION:** Normal film.",
        "**Indication**: Fever.\n\n**Findings**: Lungs are clear.\n**Impression**\nNormal film.",
        "**Indication** Fever. **Findings** Lungs are clear. **Impression** Normal film.",
        "__HISTORY:__ Fever.\n__FINDINGS:__ Lungs are clear.\n__IMPRESSION:__ Normal film.",
        "<b>INDICATION:</b> Fever. <b>FINDINGS:</b> Lungs are clear. <b>IMPRESSION:</b> "
        "Normal film.",
        "## Indication\nFever.\n## Findings\nLungs are clear.\n## Impression\nNormal film.",
        # without a colon
        "INDICATION\nFever.\nFINDINGS\nLungs are clear.\nIMPRESSION\nNormal film.",
        "Indication\r\nFever.\r\n\r\nFindings\r\nLungs are clear.\r\n\r\nImpression\r\n"
        "Normal film.\r\n",
        "Indication - Fever. Findings - Lungs are clear. Impression \u2013 Normal film.",
        # drawn lines, numbers, brackets and blanks of other kinds
        "INDICATION\n-----\nFever.\nFINDINGS\n=====\nLungs are clear.\n\nIMPRESSION\n---\n"
        "Normal film.",
        "1. INDICATION: Fever.\n2. FINDINGS: Lungs are clear.\n3. IMPRESSION: Normal film.",
        "[INDICATION] Fever. [FINDINGS] Lungs are clear. [IMPRESSION]: Normal film.",
        "INDICATION\u00a0: Fever.\n\u00a0FINDINGS:\u00a0Lungs are clear.\nIMPRESSION\u202f: "
        "Normal film.",
        "Clinical diagnosis: Fever.\nFINDINGS: Lungs are clear.\nIMPRESSION: Normal film.",
        "INDICATION - Fever.\nFINDINGS - Lungs are clear.\nIMPRESSION - Normal film.",
        # other line ends
        "INDICATION: Fever.\rFINDINGS: Lungs are clear.\rIMPRESSION: Normal film.",
        "INDICATION: Fever.\u2028FINDINGS: Lungs are clear.\u2028IMPRESSION: Normal film.",
        "INDICATION: Fever.\x85FINDINGS: Lungs are clear.\x0bIMPRESSION: Normal film.\x0c",
        # under the examination's own name
        "HISTORY: Fever.\nCHEST, PA AND LATERAL: Lungs are clear.\nIMPRESSION: Normal film.",
        "HISTORY: Fever.\nPORTABLE AP CHEST RADIOGRAPH, 3/4/2020 AT 10:30:\nLungs are clear.\n"
        "IMPRESSION: Normal film.",
        "HISTORY: Fever.\nTwo views of the chest\nLungs are clear.\nIMPRESSION: Normal film.",
        # under no heading at all
        "INDICATION: Fever.\n\nLungs are clear.\n\nIMPRESSION: Normal film.",
        # after a letterhead
        "St. Nowhere Hospital\nINDICATION: Fever.\nFINDINGS: Lungs are clear.\n"
        "IMPRESSION: Normal film.",
    ],
)
def test_heading_styles(text: str) -> None:
    assert parse_sections(text) == EXPECTED


@pytest.mark.parametrize("title", ["CHEST, TWO VIEWS", "PORTABLE CHEST:", "Two views of the chest"])
@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_a_title_is_not_a_findings_heading(title: str, gap: str) -> None:
    text = f"{title}\nHISTORY: Fever.{gap}Lungs are clear. No effusion."
    assert parse_sections(text) == Sections("Lungs are clear. No effusion.", "", "Fever.", "")


def test_capital_headings_without_full_stops() -> None:
    sections = parse_sections("INDICATION: Fever FINDINGS: Lungs clear IMPRESSION: Normal film")
    assert sections == Sections("Lungs clear", "Normal film", "Fever", "")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "FINDINGS: Lungs clear.\nViews: limited by arms.\nRib fracture.\nIMPRESSION: Same.",
            ("Lungs clear.", "Rib fracture."),
        ),
        (
            "FINDINGS: Clear.\nExam: suboptimal.\nBig heart.\nIMPRESSION: Big heart.",
            ("Big heart.",),
        ),
        ("Findings: Clear.\nTechnique: rotated.\nBig heart.\nImpression: None.", ("Big heart.",)),
        ("FINDINGS: Clear. Comparison: none. Big heart. IMPRESSION: None.", ("Big heart.",)),
        ("Clear.\nStudy: rotated.\nBig heart.", ("Clear.", "Big heart.")),
        ("FINDINGS: No change in findings. My impression of a mass is unchanged.", ("a mass is",)),
        ("FINDINGS: Lungs: clear.\nHeart: big.\nIMPRESSION: Big heart.", ("Heart: big.",)),
        (
            "CHEST, TWO VIEWS: Clear.\nChest: no deformity.\nBig heart.",
            ("no deformity", "Big heart."),
        ),
    ],
)
def test_a_heading_word_within_the_findings_does_not_end_them(
    text: str, kept: tuple[str, ...]
) -> None:
    findings = parse_sections(text).findings
    assert all(piece in findings for piece in kept)


@pytest.mark.parametrize(
    "heading",
    [
        "ADDENDUM:",
        "Addendum:",
        "ADDENDUM #2:",
        "ADDENDUM (5/6/2020 09:30):",
        "Addendum by the attending:",
        "**ADDENDUM:**",
        "ADDENDUM\n",
        "IMPRESSION:",
        "CORRECTED IMPRESSION:",
        "IMPRESSION (corrected):",
        "Amended report:",
        "REVISED CONCLUSION:",
        "ATTENDING IMPRESSION:",
        "--- ADDENDUM BEGINS ---\n",
        "***** Addendum *****\n",
    ],
)
def test_addenda_and_second_impressions_come_last(heading: str) -> None:
    report = "FINDINGS: Clear.\n\nIMPRESSION: Normal.\n\n"
    sections = parse_sections(f"{report}{heading} There is a fracture.\n--- END OF REPORT ---\n")
    assert sections.findings == "Clear."
    assert sections.impression == "Normal.\n\nThere is a fracture."


def test_a_leading_addendum_comes_last() -> None:
    text = "ADDENDUM: There is a fracture.\n\nFINDINGS: Clear.\nIMPRESSION: Normal.\n"
    assert parse_sections(text).impression == "Normal.\n\nThere is a fracture."
    text = "ADDENDUM: There is a fracture.\nFINAL REPORT\nFINDINGS: Clear.\nIMPRESSION: Normal.\n"
    assert parse_sections(text).impression == "Normal.\n\nThere is a fracture."


def test_a_wet_read_is_ignored() -> None:
    text = "IMPRESSION:\n1. Clear.\n\nWET READ: Clear.\nIMPRESSION: Fracture, corrected.\n"
    assert parse_sections(text).impression == "1. Clear.\n\nFracture, corrected."


@pytest.mark.parametrize("text", ["see FINDINGS: above", "The findings: a mass", "no impression"])
def test_a_word_within_a_sentence_is_not_a_heading(text: str) -> None:
    assert parse_sections(text) == Sections(findings=text)
