"""The list of images: every line is used, or the file is refused."""

from pathlib import Path

import pytest

from rag.corpus.records import read_images_file
from rag.errors import CorpusError


def test_image_paths_are_relative_to_the_list_and_distinct(tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    path.write_text(
        "\ufeffview,study_id,image\nPA,s1,a/1.dcm\nLL,s1,/b/2.png\nPA,s1,a/1.dcm\n,s2,3\n"
    )
    assert read_images_file(path) == {
        "s1": (tmp_path / "a/1.dcm", Path("/b/2.png")),
        "s2": (tmp_path / "3",),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study_id,path\ns1,a.png\n", "no column image"),
        ("image\na.png\n", "no column study_id"),
        ("", "no column"),
        ("study_id,image\ns1,a.png\ns2\n", "line 3 cannot be read: has 1 fields"),
        ("study_id,image\n ,a.png\n", "line 2"),
        ('study_id,image\n"s1,a.png\n', "cannot be read"),
    ],
)
def test_a_list_with_a_bad_row_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "images.csv"
    path.write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_images_file(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        read_images_file(tmp_path / "images.csv")
