"""Sentence spans: verbatim, complete, and correct for the style of radiology reports."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.report_nlp.sentences import sentence_spans, strip_list_number, with_sentences
from rag.schema import ReportRecord, Section, Span


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("Normal chest", ["Normal chest"]),
        ("Lungs clear. Heart normal.", ["Lungs clear.", "Heart normal."]),
        # missing space
        ("Lungs clear.Heart normal.", ["Lungs clear.", "Heart normal."]),
        ("No acute disease.2. Old rib fracture.", ["No acute disease.", "2. Old rib fracture."]),
        # decimals and measures
        ("A 1.5 x 2.0 cm nodule. Stable.", ["A 1.5 x 2.0 cm nodule.", "Stable."]),
        ("A nodule of 2 cm. in the apex.", ["A nodule of 2 cm. in the apex."]),
        ("A nodule of 2 cm. No effusion.", ["A nodule of 2 cm.", "No effusion."]),
        # numbered impressions
        ("1. Clear lungs. 2. Large heart.", ["1. Clear lungs.", "2. Large heart."]),
        ("1. 8 mm nodule. 2. 1.7 cm mass.", ["1. 8 mm nodule.", "2. 1.7 cm mass."]),
        ("1.Clear lungs. 2.Large heart.", ["1.Clear lungs.", "2.Large heart."]),
        ("1) Clear lungs. 2) Large heart.", ["1) Clear lungs.", "2) Large heart."]),
        ("1. Clear lungs\n2. Large heart", ["1. Clear lungs", "2. Large heart"]),
        ("- Clear lungs\n- Large heart", ["- Clear lungs", "- Large heart"]),
        ("Degenerative change at T12. 2. No mass.", ["Degenerative change at T12.", "2. No mass."]),
        # de-identification tokens
        ("Compared to XXXX. Lungs clear.", ["Compared to XXXX.", "Lungs clear."]),
        ("Seen on XXXX.Lungs clear.", ["Seen on XXXX.", "Lungs clear."]),
        ("Discussed with ___. Lungs clear.", ["Discussed with ___.", "Lungs clear."]),
        ("Dr. XXXX was called. Stable.", ["Dr. XXXX was called.", "Stable."]),
        ("Told Dr. XXXX. Stable.", ["Told Dr. XXXX.", "Stable."]),
        (
            "Called at XXXX p.m. XXXX, XXXX. Clear.",
            ["Called at XXXX p.m. XXXX, XXXX.", "Clear."],
        ),
        ("Called at 4 p.m. Lungs clear.", ["Called at 4 p.m.", "Lungs clear."]),
        ("Chest 1. Clear lungs. 2. Large heart.", ["Chest 1. Clear lungs.", "2. Large heart."]),
        # irregular full stops
        ("Normal size.. No effusion..", ["Normal size..", "No effusion.."]),
        ("No consolidation. . If needed, CT.", ["No consolidation. .", "If needed, CT."]),
        ("Granuloma . No effusion.", ["Granuloma .", "No effusion."]),
        ("Heart size normal. lungs clear.", ["Heart size normal.", "lungs clear."]),
        ("[<Heart normal.>] Volumes low.", ["[<Heart normal.>]", "Volumes low."]),
        ("Heart normal.&gt;] Volumes low.", ["Heart normal.&gt;]", "Volumes low."]),
        ("Risk of malignancy? 2. Clear.", ["Risk of malignancy?", "2. Clear."]),
        ("Edema vs. infection. Clear.", ["Edema vs. infection.", "Clear."]),
        # hard-wrapped lines
        ("The left lung is\nclear. The heart\nis large.", ["The left lung is\nclear.",
                                                           "The heart\nis large."]),
        ("Clear lungs\n\nLarge heart", ["Clear lungs", "Large heart"]),
    ],
)  # fmt: skip
def test_sentence_splitting(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


PIECES = st.sampled_from(
    ["Lungs clear", "1", "2", ".", "..", " ", "\n", "\n\n", "XXXX", "___", "Dr", "cm", "p.m.", "?",
     "-", "\u2022", "1.5", "(", ")", "\u00a0", "\ufeff", "\x0b", "e.g.", "No"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join)))
def test_spans_are_ordered_disjoint_trimmed_and_complete(text: str) -> None:
    covered = set()
    before = 0
    for start, end in sentence_spans(text):
        assert before <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        covered.update(range(start, end))
        before = end
    assert all(text[i].isspace() for i in range(len(text)) if i not in covered)


def test_record_spans_name_their_section_in_reading_order() -> None:
    record = with_sentences(
        ReportRecord("r1", "r1", "r1", findings="Clear. Normal heart.", impression="No disease.")
    )
    assert record.sentences == (
        Span(Section.FINDINGS, 0, 6),
        Span(Section.FINDINGS, 7, 20),
        Span(Section.IMPRESSION, 0, 11),
    )
    assert [record.sentence(span) for span in record.sentences][2] == "No disease."


@pytest.mark.parametrize(
    ("sentence", "alone"),
    [
        ("2. No effusion.", "No effusion."),
        ("(3) Normal.", "Normal."),
        ("- Clear lungs.", "Clear lungs."),
        ("1.7 cm nodule.", "1.7 cm nodule."),
        ("Discrete 1.4 cm nodule.", "Discrete 1.4 cm nodule."),
    ],
)
def test_list_numbers_are_stripped_decimals_kept(sentence: str, alone: str) -> None:
    assert strip_list_number(sentence) == alone
