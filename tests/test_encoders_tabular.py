"""Reading users' tables with the quirks of spreadsheets and pandas."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encoders.tabular import (
    Row,
    TableError,
    is_missing,
    is_repaired_id,
    is_table,
    parse_id,
    read_table,
)

WANTED = [{"id": "a", "text": "Big heart."}, {"id": "b", "text": "No change; stable."}]


def rows(folder: Path, data: str | bytes, name: str = "t.csv", **options: Any) -> list[Row]:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_table(path, **options))


def values(folder: Path, data: str | bytes, name: str = "t.csv") -> list[dict[str, Any]]:
    found = rows(folder, data, name)
    assert not [row.problem for row in found if row.problem]
    return [row.values for row in found]


@pytest.mark.parametrize(
    "data",
    [
        b'id,text\na,Big heart.\nb,"No change; stable."\n',
        b"id\ttext\na\tBig heart.\nb\tNo change; stable.\n",
        b"id|text\r\na|Big heart.\r\nb|No change; stable.\r\n",
        b'ID; Text \na;Big heart.\nb;"No change; stable."',
        b"\xef\xbb\xbfid,text\na,Big heart.\nb,No change; stable.\n",
        # Excel: the separator in a line of its own, and cells that were once touched
        b'sep=;\r\nid;text\r\na;Big heart.\r\nb;"No change; stable."\r\n',
        b'"sep=,"\nid,text\na,Big heart.\nb,No change; stable.\n',
        b"id,text,,\na,Big heart.,,\n,,,\nb,No change; stable.,, \n",
        b"\n \nid,text\na,Big heart.,,\nb,No change; stable.\n",
        # pandas: the index as a first column without a name
        b",id,text\n0,a,Big heart.\n1,b,No change; stable.\n",
        # old Mac line ends, and Windows' Unicode text
        b"id,text\ra,Big heart.\rb,No change; stable.\r",
        b'id,text\ra,Big heart.\rb,"No change; stable."\r"",\n\r',
        "id\ttext\r\na\tBig heart.\r\nb\tNo change; stable.\r\n".encode("utf-16"),
    ],
)
def test_all_variants_of_a_table_give_the_same_rows(tmp_path: Path, data: bytes) -> None:
    assert values(tmp_path, data) == WANTED


def test_nan_in_jsonl_means_missing_unless_strict(tmp_path: Path) -> None:
    data = b'{"ID": "a", "text": "Big heart."}\n\n{"id": "b", "text": NaN}\n'
    one, two = values(tmp_path, data, "t.jsonl")
    assert one == WANTED[0]
    assert is_missing(two["text"])
    problems = [row.problem for row in rows(tmp_path, data, "t.jsonl", strict=True)]
    assert problems[0] == ""
    assert "holds NaN" in problems[1]


@pytest.mark.parametrize("name", ["t.csv.gz", "T.CSV.GZ"])
def test_a_gzipped_table_is_recognised(tmp_path: Path, name: str) -> None:
    assert is_table(tmp_path / name)
    assert values(tmp_path, gzip.compress(b"id\na\n"), name) == [{"id": "a"}]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_line_ends_end_a_line(tmp_path: Path, sign: str) -> None:
    text = f"Big{sign}heart."
    assert values(tmp_path, f"id,text\na,{text}\n") == [{"id": "a", "text": text}]
    if sign.isprintable() or ord(sign) > 31:
        line = f'{{"id": "a", "text": "{text}"}}\n'
        assert values(tmp_path, line, "t.jsonl") == [{"id": "a", "text": text}]


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    data = 'sep=,\nid,text\na,"Big\nheart."\nb\nc,"d"e\nf,g\n'
    found = [(row.where, row.problem.partition(":")[0]) for row in rows(tmp_path, data)]
    assert found == [
        ("lines 3-4", ""),
        ("line 5", "has 1 fields where the header has 2"),
        ("line 6", "not readable as CSV"),
        ("line 7", ""),
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"a,Big,moved,", "has a value in column 3, which has no name"),
        (b"a,Big\xe9,,", "text is not valid UTF-8"),
        (b"a,Big\x00,,", "text holds a NUL byte"),
    ],
)
def test_a_damaged_row_has_a_problem(tmp_path: Path, row: bytes, problem: str) -> None:
    bad, good = rows(tmp_path, b"id,text,,\n" + row + b"\nb,c,,\n")
    assert problem in bad.problem
    assert good == Row("line 3", {"id": "b", "text": "c"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column id; its columns are: none"),
        (b"id,text,TEXT\n", "two columns of the same name"),
        (b'id,"text\n', "no readable header line"),
        (b"name,text\n", "no column id; its columns are: name, text"),
        ("id,text\n".encode("utf-16-le"), "zero bytes"),
    ],
)
def test_a_table_with_an_unusable_header_is_an_error(
    tmp_path: Path, data: bytes, message: str
) -> None:
    with pytest.raises(TableError, match=message):
        rows(tmp_path, data, required=("id", ("text", "report")))


def test_columns_may_have_alternatives(tmp_path: Path) -> None:
    assert rows(tmp_path, b"id,report\na,b\n", required=("id", ("text", "report")))
    with pytest.raises(TableError, match="no column text or report"):
        rows(tmp_path, b"id,words\na,b\n", required=("id", ("text", "report")))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("77.0", "77"),
        ("77.00", "77"),
        (77.0, "77"),
        (77, "77"),
        ("0077", "0077"),
        (" A77 ", "A77"),
        ("77.50", "77.50"),
        ("1.2.840.0", "1.2.840.0"),
        ("12E3", "12E3"),
        ('="0077"', "0077"),
        ("'0077", "0077"),
        ("1,234,567", "1234567"),
        ("9007199254740992.0", "9007199254740992"),
        *(
            (nothing, "")
            for nothing in (None, "", " ", "nan", "NaN", "NULL", "None", "N/A", "NA", "-")
        ),
        (float("nan"), ""),
    ],
)
def test_ids_are_repaired(value: object, wanted: str) -> None:
    assert parse_id(value) == wanted


def test_repaired_ids_are_recognised() -> None:
    assert is_repaired_id("77.0")
    assert is_repaired_id(77.0)
    assert is_repaired_id('="77"')
    assert not any(is_repaired_id(value) for value in ("77", 77, "A7.0", None, float("nan")))


@pytest.mark.parametrize(
    "value",
    [
        "#REF!",
        "#NAME?",
        "########",
        "77,000",
        "77.000",
        "1.000.000",
        "1.23457E+11",
        "1e+05",
        "1,5E+10",
        1e30,
        "12345678901234567890.0",
        77.5,
        True,
        ["a"],
    ],
)
def test_ids_that_lost_something_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^is "):
        parse_id(value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["t.csv", "t.tsv", "t.jsonl"]), st.booleans())
def test_random_bytes_give_rows_or_one_error(
    tmp_path: Path, data: bytes, name: str, strict: bool
) -> None:
    try:
        found = rows(tmp_path, b"id,text\n" + data, name, strict=strict)
    except TableError:
        return
    for row in found:
        assert row.where
        assert row.problem or row.values
