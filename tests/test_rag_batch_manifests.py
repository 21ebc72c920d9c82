"""Lists of images (CSV, JSONL, ReXrank's JSON): read, or refused with every wrong line named."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.small_batch import draw_image

from rag.batch.grouping import group_images
from rag.batch.inputs import BatchStudy, list_images
from rag.batch.manifests import read_list, write_rexrank
from rag.errors import UsageError


def studies_of(source: Path) -> list[BatchStudy]:
    return group_images(list_images(source).images)[0]


def test_csv_and_jsonl_are_read_the_same_way(tmp_path: Path) -> None:
    for number, name in enumerate(("f.png", "l.png", "g.png")):
        draw_image(tmp_path / name, number)
    (tmp_path / "list.csv").write_text(
        "study_id,image,view,indication,patient_id,more\n"
        'S1,f.png,frontal,"cough, fever",P1,x\nS1,l.png,lateral,,P1,\nS2,g.png,,,,\n'
    )
    rows = [
        {
            "study_id": "S1",
            "image": ["f.png", "l.png"],
            "views": ["PA", "LL"],
            "indication": "cough, fever",
            "patient_id": "P1",
        },
        {"study_id": "S2", "image": "g.png"},
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    from_csv, from_jsonl = (studies_of(tmp_path / f"list.{kind}") for kind in ("csv", "jsonl"))
    assert from_csv == from_jsonl
    one, two = from_csv
    assert (one.study_id, one.name, one.other_views) == ("S1", "f.png", (tmp_path / "l.png",))
    assert (one.indication, one.exclude.patients) == ("cough, fever", {"P1"})
    assert (two.study_id, two.other_views) == ("S2", ())


@pytest.mark.parametrize("column", ["image", "image_path", "image,image_path"])
def test_an_absolute_path_that_does_not_exist_is_relative_to_the_root(
    tmp_path: Path, column: str
) -> None:
    for folder in (root := tmp_path / "root"), (elsewhere := tmp_path / "elsewhere"):
        folder.mkdir()
        draw_image(folder / "a.png", 1)
    names = {"S1": elsewhere / "a.png", "S2": "/a.png", "S3": "a.png"}
    rows = [
        ",".join([study, *[str(name)] * len(column.split(","))]) for study, name in names.items()
    ]
    (root / "list.csv").write_text("\n".join([f"study_id,{column}", *rows]))
    found = {image.study_id: image.path for image in list_images(root / "list.csv").images}
    inside = root / "a.png"
    assert found == {"S1": names["S1"], "S2": inside, "S3": inside}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.csv", b"file\na.png\n", "has no column study_id"),
        ("l.csv", b"study_id,file\nS1,a.png\n", "no column image"),
        ("l.jsonl", b'{"study_id": "S1", "file": "a.png"}\n', "its column is called image"),
        ("l.csv", b"study_id,image\nS1\n", "line 2: has 1 fields where the header has 2"),
        ("l.csv", b'study_id,image\nS1,"a\nS2,b\n', "not readable as CSV"),
        ("l.csv", b"study_id,image\n,a.png\n", "line 2: has no study_id"),
        ("l.csv", b"study_id,image\nS1,\n", "line 2: names no image"),
        ("l.csv", b"study_id,image\nS1,a.png\nS1,a.png\n", "line 3: names the image"),
        ("l.csv", b"study_id,image\n", "lists no image"),
        ("l.csv", b"", "has no column"),
        ("l.csv", "study_id,image\nS1,a.png\n".encode("utf-16-be"), "UTF-16"),
        ("l.csv", b"study_id,image\nS\xff,a.png\n", "line 2: study_id is not valid UTF-8"),
        ("l.csv", b"study_id,image\n1.2E+11,a.png\n", "line 2: study_id is 1.2E"),
        ("l.jsonl", b'{"study_id": "S1"}\n', "line 1: names no image"),
        ("l.jsonl", b'{"study_id": "S1", "image": 7}\n', "neither a text nor a list"),
        ("l.jsonl", b'{"study_id": ["S1"], "image": "a"}\n', "study_id is list, not text"),
        ("l.jsonl", b'{"study_id": "S1", "image": ["a"], "views": []}\n', ""),
        ("l.jsonl", b"not json\n", "not JSON"),
        ("l.json", b"[1, 2]", "not a JSON object of studies"),
        ("l.json", b'{"S1": {"image_path": []}}', "names no image"),
    ],
)
def test_a_wrong_list_is_refused_as_a_whole(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    if words:
        with pytest.raises(UsageError, match=words):
            list_images(path)


def test_many_wrong_lines_are_not_all_printed(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text('{"study_id": "S\\u001b[31m"}\n' * 100)
    with pytest.raises(UsageError) as found:
        list_images(path)
    assert "and 80 more" in str(found.value)
    assert "\x1b" not in str(found.value)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["csv", "jsonl", "json"]),
    start=st.sampled_from([b"", b"study_id,image\n", b'{"study_id": "S1", "image": "a"}\n']),
    rest=st.binary(max_size=300),
)
def test_garbage_is_refused_or_read_but_never_crashes(
    tmp_path: Path, kind: str, start: bytes, rest: bytes
) -> None:
    path = tmp_path / f"l.{kind}"
    path.write_bytes(start + rest)
    try:
        listing = read_list(path, root=tmp_path)
    except UsageError as error:
        assert str(error)
    else:
        assert group_images(listing.images)[0]


VIEWS = "study_id,image,view\nS1,a.png,{}\nS1,b.png,{}\n"


@pytest.mark.parametrize(
    ("first", "second", "frontal", "noted"),
    [
        ("AP AXIAL", "XTABLE LATERAL", [True, False], ""),
        ("Lat. stehend", "a.p.", [False, True], ""),
        ("LAO", "PA", [None, True], '"LAO" (1)'),
        ("sideways", "sideways", [None, None], '"sideways" (2)'),
        ("nan", "N/A", [None, None], ""),
        ("frontal", "NULL", [True, None], ""),
    ],
)
def test_an_unknown_view_is_a_note_not_an_error(
    tmp_path: Path, first: str, second: str, frontal: list[bool | None], noted: str
) -> None:
    (tmp_path / "l.csv").write_text(VIEWS.format(first, second))
    listing = list_images(tmp_path / "l.csv")
    assert [image.frontal for image in listing.images] == frontal
    assert noted in " ".join(listing.problems)
    assert bool(listing.problems) is bool(noted)


def test_words_for_missing_values_are_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(
        "study_id,image,indication,patient_id\nS1,a.png,nan,NaN\nS2,b.png,None,N/A\n"
    )
    for image in list_images(tmp_path / "l.csv").images:
        assert (image.indication, image.patient_id) == ("", "")
    row = {"study_id": "S1", "image": ["a", "b"], "views": [None, "LL"]}
    (tmp_path / "l.jsonl").write_text(json.dumps(row) + "\n")
    assert [image.frontal for image in list_images(tmp_path / "l.jsonl").images] == [None, False]


REXRANK = {
    "CXR1_IM-1": {
        "key_image_path": "CXR1_IM-1/1.png",
        "image_path": ["CXR1_IM-1/0.png", "CXR1_IM-1/1.png"],
        "frontal_lateral": ["Lateral", "Frontal"],
        "context": "Indication: cough Comparison: None.",
        "section_findings": "Lungs are clear.",
        "report": "Findings: Lungs are clear.",
    },
    "CXR2_IM-2": {"image_path": ["/CXR2_IM-2/0.png"], "context": ""},
}


def test_rexrank_in_and_out(tmp_path: Path) -> None:
    source = tmp_path / "input.json"
    source.write_text(json.dumps(REXRANK))
    (one, two), _ = group_images(list_images(source, root=tmp_path / "images").images)
    assert (one.study_id, one.name) == ("CXR1_IM-1", "CXR1_IM-1/1.png")
    assert one.source == tmp_path / "images" / "CXR1_IM-1" / "1.png"
    assert one.other_views == ()  # the lateral is not there: it cannot be looked at
    assert one.indication.startswith("Indication: cough")
    assert two.source == tmp_path / "images" / "CXR2_IM-2" / "0.png"

    predictions = tmp_path / "predictions.jsonl"
    draft = {
        "study_id": "CXR1_IM-1",
        "status": "ok",
        "findings": [{"text": "Lungs are clear."}, {"text": "Heart is normal."}],
        "impression": [{"text": "Normal."}],
    }
    failed = {"study_id": "CXR2_IM-2", "status": "failed", "findings": [], "impression": []}
    predictions.write_text(json.dumps(draft) + "\n" + json.dumps(failed) + "\n")
    assert write_rexrank(source, tmp_path / "output.json", predictions) == 2
    written = json.loads((tmp_path / "output.json").read_text())
    prediction = "Findings: Lungs are clear. Heart is normal. Impression: Normal."
    assert written["CXR1_IM-1"] == {**REXRANK["CXR1_IM-1"], "model_prediction": prediction}
    assert written["CXR2_IM-2"]["model_prediction"] == ""
    assert written["CXR2_IM-2"]["status"] == "failed"
