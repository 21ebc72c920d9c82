"""A user's own collection: what is read, and how garbage is reported."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.report_sections import parse_sections, report_parts
from rag.corpus.records import Corpus, read_exclude_file, read_images_file
from rag.corpus.user_collection import COLUMNS, MAX_SECTION_CHARS, read_collection
from rag.errors import CorpusError

HEADER = "report_id,study_id,patient_id,findings,impression,labels,date\n"


def read(path: Path, data: str | bytes, name: str = "mine.csv") -> Corpus:
    file = path / name
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_collection(file)


def ids(corpus: Corpus) -> list[str]:
    return [record.report_id for record in corpus.records]


def reasons(corpus: Corpus) -> list[str]:
    return [str(problem) for problem in corpus.problems]


def test_csv(tmp_path: Path) -> None:
    row = 'r1,s1,p1,"Heart large, lungs clear.\n""Old"" fracture.",Stable.,a/b; c ;a/b,2026-11-24\n'
    corpus = read(tmp_path, HEADER + row)
    assert not corpus.problems
    assert not corpus.warnings
    (record,) = corpus.records
    assert record.findings == 'Heart large, lungs clear.\n"Old" fracture.'
    assert (record.study_id, record.patient_id) == ("s1", "p1")
    assert record.labels == ("a/b", "c")
    assert record.date == "2026-11-24"
    assert (corpus.name, corpus.licence) == ("mine", "not stated")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_dialects(tmp_path: Path, separator: str, mark: bytes, end: str) -> None:
    lines = [["Report_ID ", "Findings"], ["r1", "Lungs clear"], ["r2", "Heart large"]]
    text = end.join(separator.join(line) for line in lines)
    corpus = read(tmp_path, mark + text.encode())
    assert ids(corpus) == ["r1", "r2"]
    assert [record.findings for record in corpus.records] == ["Lungs clear", "Heart large"]


def test_missing_ids_have_a_documented_default_and_a_warning(tmp_path: Path) -> None:
    corpus = read(tmp_path, "report_id,study_id,findings,ward\nr1,s1,a,x\nr2,,b,x\n")
    assert [(r.study_id, r.patient_id) for r in corpus.records] == [("s1", "s1"), ("r2", "r2")]
    assert sorted(corpus.warnings) == [
        "1 of 2 reports have no study_id; their report_id is taken instead, so reports of the "
        "same study may be retrieved for each other",
        "2 of 2 reports have no patient_id; their study_id is taken instead, so reports of the "
        "same patient may be retrieved for each other",
        "columns that are not used: ward",
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"r2,,,Clear\n", "line 3: has 4 fields where the header has 7"),
        (b"r2,,,Clear,,,,,x\n", "line 3: has 9 fields where the header has 7"),
        (b",,,Clear,,,\n", "line 3: has no report_id"),
        (b"  ,,,Clear,,,\n", "line 3: has no report_id"),
        (b"r1,,,Clear,,,\n", "line 3 (r1): its report_id is used at line 2 already"),
        (b"r2,,,,,,\n", "line 3 (r2): has neither findings nor impression nor text"),
        (b"r2,,, ,\t,,\n", "line 3 (r2): has neither findings nor impression nor text"),
        (b"r2,,,Cl\xe9ar,,,\n", "line 3 (r2): findings is not valid UTF-8: save the file as"),
        (b"r2,,,Cl\x00ear,,,\n", "line 3 (r2): findings holds a NUL byte"),
        (b"r2,,,Clear,,,24.11.2026\n", "line 3 (r2): date is not ISO 8601 (2026-11-24)"),
        (b'r2,,,"Cle"ar,,,\n', "line 3: not readable as CSV"),
        (b"r\x072,,,Clear,,,\n", "report_id is longer than 128 characters or holds control"),
        (b"r" * 129 + b",,,Clear,,,\n", "report_id is longer than 128 characters or holds control"),
        (b"r2,,," + b"a" * (MAX_SECTION_CHARS + 1) + b",,,\n", "findings has 50001 characters"),
        (b"r2,,," + b"a" * 200_000 + b",,,\n", "line 3: not readable as CSV: field larger"),
        (b"r2,,," + b"a" * 3_000_000 + b",,,\n", "line 3: not readable as CSV: field larger"),
        (b"x" + b",x" * 2_000_000 + b"\n", "line 3: has 500001 fields where the header has 7"),
    ],
)  # fmt: skip
def test_a_bad_row_is_listed_and_the_rest_is_read(tmp_path: Path, row: bytes, problem: str) -> None:
    corpus = read(tmp_path, HEADER.encode() + b"r1,,,Clear,,,\n" + row + b"r9,,,Clear,,,\n")
    assert ids(corpus) == ["r1", "r9"]
    (found,) = reasons(corpus)
    assert problem in found


def test_a_stray_quote_never_merges_two_patients(tmp_path: Path) -> None:
    rows = 'r1,s1,p1,"Lungs clear,,,\nr2,s2,p2,"Heart large",,,\nr3,s3,p3,Clear,,,\n'
    corpus = read(tmp_path, HEADER + rows)
    assert "r1" not in ids(corpus)
    assert "r3" in ids(corpus)
    assert all("r2" not in record.findings for record in corpus.records)
    assert any("not readable as CSV" in reason for reason in reasons(corpus))


def test_an_open_quote_at_the_end_is_a_problem(tmp_path: Path) -> None:
    corpus = read(tmp_path, HEADER + 'r1,,,Clear,,,\nr2,,,"Clear,,,\nr3,,,Clear,,,\n')
    assert ids(corpus) == ["r1"]
    assert reasons(corpus) == ["lines 3-4: not readable as CSV: unexpected end of data"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n", "has no column report_id"),
        (
            "a.csv",
            b"name,text\n1,clear\n",
            "or id; its columns are: name, text",
        ),
        ("a.csv", b"report_id,text,TEXT\n1,a,b\n", "two columns of the same name"),
        ("a.csv", b"report_id,text\n", "holds no report"),
        ("a.csv", "report_id,text\n1,a\n".encode("utf-16-be"), "as UTF-16 does: save it as UTF-8"),
        ("a.csv", b"PK\x03\x04" + bytes(range(256)) * 9, "a.csv holds zero bytes"),
        ("a.csv", b'report_id,"text\n', "has no readable header line"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "holds no report"),
        ("a.xlsx", b"PK", ".xlsx is not a report collection; give .csv, .jsonl or a folder"),
        ("a", b"x", "no suffix is not a report collection"),
    ],
)
def test_an_unreadable_file_is_one_error(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(CorpusError, match=message.replace("(", r"\(")):
        read(tmp_path, data, name)


def test_a_missing_or_empty_collection_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="there is no"):
        read_collection(tmp_path / "none.csv")
    with pytest.raises(CorpusError, match="holds no report"):
        read_collection(tmp_path)


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        {"report_id": 7, "text": "INDICATION: cough\nFINDINGS: Clear.\nIMPRESSION: Normal."},
        {"report_id": "r2", "impression": "Effusion.", "labels": ["a;b", " "], "patient_id": "p"},
    ]
    corpus = read(tmp_path, "\n\n".join(json.dumps(line) for line in lines), "a.jsonl")
    seven, two = corpus.records
    assert (seven.report_id, seven.findings, seven.impression) == ("7", "Clear.", "Normal.")
    assert seven.indication == "cough"
    assert (two.labels, two.patient_id) == (("a;b",), "p")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "line 2: not JSON: Expecting property name"),
        (b"[1]", "line 2: is a list, not a JSON object"),
        (b'{"report_id": true, "text": "a"}', "line 2 (True): report_id is bool, not text"),
        (b'{"report_id": "r2", "text": 7}', "line 2 (r2): text is int, not text"),
        (b'{"report_id": "r2", "text": "a", "labels": {"a": 1}}', "labels is dict, not a list"),
        (b'{"report_id": "r2", "text": "a", "labels": [1]}', "labels is int, not text"),
        (b'{"report_id": "r2", "text": "\\u0000"}', "text holds a NUL byte"),
        (b'{"report_id": "r2", "text": "\\ud800"}', "text is not valid UTF-8"),
        (b'{"report_id": "r2", "text": "\xff"}', "text is not valid UTF-8"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
        (b'{"report_id": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": "' + b"b" * 2_000_000 + b'"}', "not JSON: Unterminated string"),
    ],
)
def test_a_bad_line_is_listed_and_the_rest_is_read(
    tmp_path: Path, line: bytes, problem: str
) -> None:
    good = b'{"report_id": "r%d", "text": "Clear."}'
    corpus = read(tmp_path, b"\n".join([good % 1, line, good % 9]), "a.jsonl")
    assert ids(corpus) == ["r1", "r9"]
    (found,) = reasons(corpus)
    assert problem in found


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    mimic = reports / "p10" / "p10000032"
    mimic.mkdir(parents=True)
    (reports / "r1.txt").write_text("Lungs clear. Heart large.")
    (mimic / "s5.TXT").write_text("FINDINGS:\n Clear.\n")
    (mimic / "r1.txt").write_text("Another report of the same name.")
    (reports / "r2.txt").write_bytes(b"Cl\xe9ar")
    (reports / "r3.txt").write_bytes(b"")
    (reports / "r4.txt").write_bytes(b"a" * 1_000_001)
    (reports / "notes.md").write_text("not a report")
    corpus = read_collection(reports, name="ours", licence="internal", attribution="Radiology")
    assert [(r.report_id, r.patient_id) for r in corpus.records] == [
        ("r1", "p10000032"),
        ("s5", "p10000032"),
    ]
    assert reasons(corpus) == [
        "r1.txt (r1): its report_id is used at p10/p10000032/r1.txt already",
        "r2.txt (r2): not UTF-8 at byte 2: save it as UTF-8",
        "r3.txt (r3): has neither findings nor impression nor text",
        "r4.txt (r4): 1000001 bytes is not one report",
    ]
    assert (corpus.name, corpus.licence, corpus.attribution) == ("ours", "internal", "Radiology")


MIMIC = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough  // infection?

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  ___.

 FINDINGS:

 LUNGS: The left lung is
 clear.

 Heart: large.

 IMPRESSION:

 1. No pneumonia.
 RECOMMENDATION(S):  CT in ___ months.
"""


def test_sections_are_verbatim_slices_and_unknown_headings_stay() -> None:
    sections = parse_sections(MIMIC)
    assert sections.findings == "LUNGS: The left lung is\n clear.\n\n Heart: large."
    assert sections.impression == "1. No pneumonia.\n RECOMMENDATION(S):  CT in ___ months."
    assert sections.indication == "___F with cough  // infection?"
    assert sections.comparison == "___."


@pytest.mark.parametrize(
    ("text", "findings", "impression"),
    [
        ("Lungs clear.", "Lungs clear.", ""),
        ("Impression: Normal.", "", "Normal."),
        ("FINDINGS AND IMPRESSION: Clear.", "Clear.", ""),
        ("FINDINGS/IMPRESSION: Clear.", "Clear.", ""),
        ("CONCLUSION:\r\nNormal.\r\n", "", "Normal."),
        ("FINDINGS:\nIMPRESSION: Normal.\nIMPRESSION: Second.", "", "Normal.\n\nSecond."),
        ("WET READ: _\nFINAL REPORT\nHISTORY: a.\n\nClear.\n\nNormal.", "Clear.\n\nNormal.", ""),
        ("INDICATION: Cough.\r\n\r\nClear.", "Clear.", ""),
        ("INDICATION: Cough.", "", ""),
        ("See FINDINGS: above", "See FINDINGS: above", ""),
        ("", "", ""),
    ],
)  # fmt: skip
def test_sections_with_other_headings(text: str, findings: str, impression: str) -> None:
    sections = parse_sections(text)
    assert (sections.findings, sections.impression) == (findings, impression)


@given(
    st.text() | st.lists(st.sampled_from(["FINDINGS:", "IMPRESSION:", "\n", "a", " "])).map("".join)
)
def test_the_parts_of_a_report_are_the_whole_report_in_order(text: str) -> None:
    parts = report_parts(text)
    assert "".join(text[part.start : part.end] for part in parts) == text
    sections = parse_sections(text)
    for paragraph in (*sections.findings.split("\n\n"), *sections.impression.split("\n\n")):
        assert paragraph in text


def test_the_documentation_names_every_column_and_its_examples_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "collections.md").read_text(encoding="utf-8")
    for column in COLUMNS:
        assert f"`{column}`" in page
    blocks = re.findall(r"```\w*\n(.*?)```", page, re.DOTALL)
    (table,) = [block for block in blocks if block.startswith("report_id,")]
    (line,) = [block for block in blocks if block.startswith("{")]
    for corpus in (read(tmp_path, table), read(tmp_path, line, "a.jsonl")):
        assert (ids(corpus), corpus.problems) == (["r1"], ())
        assert corpus.records[0].impression
        assert corpus.records[0].labels == ("normal",)


@settings(max_examples=150)
@given(st.binary(max_size=400), st.sampled_from(["a.csv", "a.jsonl", "a.txt"]))
def test_garbage_is_an_error_or_a_problem_but_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str
) -> None:
    folder = tmp_path_factory.mktemp("rubbish")
    header = b"report_id,text\n" if name.endswith("csv") else b""
    (folder / name).write_bytes(header + data)
    try:
        corpus = read_collection(folder if name.endswith("txt") else folder / name)
    except CorpusError:
        return
    for record in corpus.records:
        record.text.encode()
        assert "\x00" not in record.text
    for reason in reasons(corpus):
        reason.encode()


PADCHEST = """,ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,Projection,ReportID,Report,Labels
0,1_a.png,0,20140915,11,8398604886942923,PA,4765777,corazon normal .,"['normal']"
1,1_b.png,0,20140915,11,8398604886942923,L,4765777,corazon normal .,"['normal']"
2,2.png,3,20140916,12,3135727504309973,PA,4765778,derrame .,"['effusion', 'x']"
"""
REXGRADIENT = """id,PatientID,StudyInstanceUid,Indication,Comparison,Findings,Impression,Sex
pGRDN1_aGRDN2_sGRDN3,GRDN1,1.2.3,Cough.,None.,The lungs are clear.,Normal chest.,F
"""


def test_padchest_is_read_as_published_with_its_images(tmp_path: Path) -> None:
    path = tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    path.write_text(PADCHEST)
    corpus = read_collection(path)
    assert not corpus.problems
    first, second = corpus.records
    assert (first.report_id, first.study_id) == ("4765777", "11")
    assert first.patient_id == "8398604886942923"
    assert (first.findings, first.labels) == ("corazon normal .", ("normal",))
    assert second.labels == ("effusion", "x")
    images = read_images_file(path)
    folder = path.parent
    assert images == {
        "11": (folder / "0/1_a.png", folder / "0/1_b.png"),
        "12": (folder / "3/2.png",),
    }
    assert read_exclude_file(path) == {"11", "12"}


def test_rexgradient_is_read_as_published(tmp_path: Path) -> None:
    path = tmp_path / "train_metadata.csv"
    path.write_text(REXGRADIENT)
    corpus = read_collection(path)
    (record,) = corpus.records
    assert (record.report_id, record.study_id) == ("pGRDN1_aGRDN2_sGRDN3", "1.2.3")
    assert (record.patient_id, record.indication) == ("GRDN1", "Cough.")
    assert (record.findings, record.impression) == ("The lungs are clear.", "Normal chest.")
    assert corpus.warnings == ("columns that are not used: sex",)
