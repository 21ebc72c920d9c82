"""Files of study ids to leave out of an index."""

from pathlib import Path

import pytest

from rag.corpus.records import read_exclude_file
from rag.errors import CxrRagError


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "s1\n\n# a comment\n s2 # because\r\ns1\n", {"s1", "s2"}),
        ("a", "\ufeffs1", {"s1"}),
        ("a.csv", "file,study_id\nx,s1\ny,s2\n", {"s1", "s2"}),
        ("a.jsonl", '{"study_id": "s1"}\n\n{"study_id": 2}\n', {"s1", "2"}),
    ],
)
def test_exclude_files(tmp_path: Path, name: str, text: str, expected: set[str]) -> None:
    (tmp_path / name).write_text(text)
    assert read_exclude_file(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"# nothing\n", "names no study"),
        ("a.txt", b"\xff", "cannot be read"),
        ("a.csv", b"id\n1\n", "has no column study_id"),
        ("a.csv", b"study_id\n1\n", None),
        ("a.csv", b"study_id,x\n1,2\n,3\n", "line 3: no study_id"),
        (
            "a.csv",
            b"study_id\n" + b"a" * 200_000,
            "line 2 cannot be read: not readable as CSV",
        ),
        ("a.jsonl", b'{"study_id": "1"}\n{\n', "line 2 cannot be read: not JSON"),
        ("a.jsonl", b'{"study_id": ""}\n', "line 1: no study_id"),
    ],
)
def test_a_half_readable_exclude_file_is_refused(
    tmp_path: Path, name: str, data: bytes, message: str | None
) -> None:
    (tmp_path / name).write_bytes(data)
    if message is None:
        assert read_exclude_file(tmp_path / name) == {"1"}
        return
    with pytest.raises(CxrRagError, match=message):
        read_exclude_file(tmp_path / name)
    with pytest.raises(CxrRagError, match="cannot be read"):
        read_exclude_file(tmp_path / "none")
