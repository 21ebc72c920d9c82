"""Report collections damaged by spreadsheets, web forms and pandas: read, repaired or refused.

Faults that users of other tools reported in public, each with an input of our own.
"""

from pathlib import Path

import pytest

from rag.corpus.records import Corpus, read_exclude_file, read_images_file
from rag.corpus.user_collection import NOT_ENGLISH, is_not_english, read_collection
from rag.errors import CorpusError
from rag.report_nlp.labeller import label_text
from rag.schema import ReportRecord


def read(folder: Path, data: str | bytes, name: str = "mine.csv") -> Corpus:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_collection(path)


@pytest.mark.parametrize(
    "text",
    [
        "HISTORY: Fever. FINDINGS: Heart is large. IMPRESSION: Cardiomegaly.",
        r"HISTORY: Fever.\nFINDINGS: Heart is large.\nIMPRESSION: Cardiomegaly.",
        r"HISTORY: Fever.\r\nFINDINGS: Heart is large.\r\n\r\nIMPRESSION: Cardiomegaly.",
        "HISTORY: Fever.\n\n" + r"FINDINGS: Heart is large.\n\nIMPRESSION: Cardiomegaly.",
        "<p>HISTORY:&nbsp;Fever.</p><p>FINDINGS: Heart is large.</p>"
        "<div class=x>IMPRESSION:&#32;Cardiomegaly.</div>",
        "**HISTORY:** Fever.\n**FINDINGS:** Heart is large.\n**IMPRESSION:** Cardiomegaly.",
        "History\nFever.\nFindings\nHeart is large.\nImpression\nCardiomegaly.",
        "HISTORY: Fever.\nCHEST, TWO VIEWS: Heart is large.\nIMPRESSION: Cardiomegaly.",
    ],
)
def test_headings_of_every_kind(tmp_path: Path, text: str) -> None:
    (record,) = read(tmp_path, f'report_id,text\nr1,"{text}"\n').records
    assert record.findings == "Heart is large."
    assert record.impression == "Cardiomegaly."
    assert record.indication == "Fever."


def test_an_escaped_line_end_is_read_in_sections_too(tmp_path: Path) -> None:
    (record,) = read(
        tmp_path, r"report_id,findings" + "\n" + r"r1,Clear.\nBig heart." + "\n"
    ).records
    assert record.findings == "Clear.\nBig heart."


def test_line_ends_of_excel_and_web_forms_are_read(tmp_path: Path) -> None:
    rows = 'r1,"Clear._x000D_\nBig heart."\nr2,Clear.<br>Big heart.<br/>\n'
    for record in read(tmp_path, "report_id,findings\n" + rows).records:
        assert record.findings.rstrip() == "Clear.\nBig heart."


def test_an_addendum_may_have_a_column(tmp_path: Path) -> None:
    rows = "r1,Normal.,Tiny pneumothorax.\nr2,Normal.,\nr3,,Fracture.\n"
    found = read(tmp_path, "report_id,impression,addendum\n" + rows).records
    assert [record.impression for record in found] == [
        "Normal.\n\nTiny pneumothorax.",
        "Normal.",
        "Fracture.",
    ]


@pytest.mark.parametrize(
    "heading", ["ADDENDUM", "Addendum #1", "CORRECTED IMPRESSION", "IMPRESSION"]
)
def test_an_addendum_is_part_of_the_record(tmp_path: Path, heading: str) -> None:
    text = f"FINDINGS: Clear.\n\nIMPRESSION: Normal.\n\n{heading}: Tiny left pneumothorax.\n"
    (record,) = folder_of(tmp_path, text)
    assert record.impression.endswith("Tiny left pneumothorax.")
    labels = {label: polarity.value for label, polarity in label_text(record.text).items()}
    assert labels == {"Pneumothorax": "positive"}


def folder_of(folder: Path, text: str) -> tuple[ReportRecord, ...]:
    (folder / "reports").mkdir()
    (folder / "reports" / "r1.txt").write_text(text)
    return read_collection(folder / "reports").records


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (
            "FINDINGS: Clear.\nStudy: limited by arms.\nTiny left effusion.\nIMPRESSION: Same.",
            "Pleural Effusion",
        ),
        (
            "FINDINGS: Clear.\nHistory: as above.\nHeart is enlarged.\nIMPRESSION: Same.",
            "Cardiomegaly",
        ),
        ("Clear.\nExam: limited.\nHeart is enlarged.", "Cardiomegaly"),
    ],
)
def test_sentences_after_a_heading_word_are_labelled(tmp_path: Path, text: str, label: str) -> None:
    (record,) = folder_of(tmp_path, text)
    assert label in label_text(record.text)


@pytest.mark.parametrize("nothing", ["nan", "NULL", "None", "N/A", "NaN", "<NA>", "null"])
def test_words_for_missing_values_are_empty(tmp_path: Path, nothing: str) -> None:
    rows = f"r1,{nothing},Clear.,{nothing},{nothing}\nr2,p2,{nothing},Normal.,x\n"
    rows += f"r3,p3,{nothing},{nothing},"
    corpus = read(tmp_path, f"report_id,patient_id,findings,impression,labels\n{rows}\n")
    one, two = corpus.records
    assert (one.patient_id, one.findings, one.impression, one.labels) == ("r1", "Clear.", "", ())
    assert (two.patient_id, two.findings, two.impression) == ("p2", "", "Normal.")
    assert [str(problem) for problem in corpus.problems] == [
        "line 4 (r3): has neither findings nor impression nor text"
    ]


def test_a_sentence_is_not_a_missing_value(tmp_path: Path) -> None:
    (record,) = read(tmp_path, "report_id,impression,comparison\nr1,Normal.,None.\n").records
    assert record.comparison == "None."


def test_ids_that_became_floats_are_repaired(tmp_path: Path) -> None:
    corpus = read(
        tmp_path, "report_id,study_id,patient_id,findings\nr1,5.0,77.0,a\nr2,6,77,b\nr3,,,c\n"
    )
    assert [(r.study_id, r.patient_id) for r in corpus.records[:2]] == [("5", "77"), ("6", "77")]
    assert any("1 values of patient_id had become numbers" in note for note in corpus.warnings)
    lines = '{"report_id": "r1", "patient_id": 77.0, "text": "a"}\n'
    assert read(tmp_path, lines, "a.jsonl").records[0].patient_id == "77"


@pytest.mark.parametrize("bad", ["1.23457E+11", "1e+05", "98765432109876543210.0"])
def test_ids_that_lost_digits_are_refused(tmp_path: Path, bad: str) -> None:
    corpus = read(tmp_path, f"report_id,patient_id,findings\nr1,{bad},a\nr2,p,b\n")
    assert [record.report_id for record in corpus.records] == ["r2"]
    (problem,) = map(str, corpus.problems)
    assert f"line 2 (r1): patient_id is {bad}" in problem
    assert "export" in problem


def test_ids_of_other_lists_are_read_the_same_way(tmp_path: Path) -> None:
    listed = tmp_path / "out.csv"
    listed.write_bytes(b"sep=;\r\nstudy_id;why\r\n5.0;x\r\n6;y\r\n")
    assert read_exclude_file(listed) == {"5", "6"}
    listed.write_text("study_id,image,\n5.0,a.png,\n")
    assert read_images_file(listed) == {"5": (tmp_path / "a.png",)}
    listed.write_text("study_id,image\n5E+10,a.png\n")
    for reader in (read_exclude_file, read_images_file):
        with pytest.raises(CorpusError, match=r"line 2: study_id is 5E\+10"):
            reader(listed)


def test_unusual_line_separators_stay_in_their_cell(tmp_path: Path) -> None:
    text = "Clear.\u2028Big\x85heart.\x0bOld\x0cfracture."
    (record,) = read(tmp_path, f"report_id,findings\nr1,{text}\n").records
    assert record.findings == text
    assert {"Cardiomegaly", "Fracture"} <= set(label_text(record.findings))


@pytest.mark.parametrize(
    ("reports", "foreign"),
    [
        (["Kein Pneumothorax, das Herz ist nicht vergrößert."], True),
        (["Sin derrame pleural. El corazón es normal."], True),
        (["胸部X線写真で異常なし。", "心拡大なし"], True),
        (["The heart is large.", "Clear lungs.", "Kein Erguss im linken Hemithorax."], False),
        (["Cardiomegaly.", "Bibasilar atelectasis, unchanged."], False),
        ([], False),
    ],
)
def test_a_collection_that_is_not_english_has_a_warning(
    tmp_path: Path, reports: list[str], foreign: bool
) -> None:
    assert is_not_english(reports) == foreign
    if reports:
        rows = "".join(f'r{at},"{text}"\n' for at, text in enumerate(reports))
        corpus = read(tmp_path, "report_id,findings\n" + rows)
        assert (NOT_ENGLISH in corpus.warnings) == foreign
