"""`cxr-rag generate` beside the running demo: real encoder, real store, real language model."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from conftest import Demo

from demo.phantom import write_phantom_dicom

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def run(demo: Demo, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rag.cli.main", *map(str, arguments)]
    return subprocess.run(
        command, env=demo.environment, capture_output=True, text=True, timeout=300, check=False
    )


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text).casefold().split())


def test_images_of_the_shared_folder_get_cited_drafts(demo: Demo, shared_data: Path) -> None:
    images = sorted((shared_data / "dicom" / "chest").glob("*.dcm"))
    done = run(demo, "generate", "--json", *images)
    assert done.returncode == 0, done.stderr
    predictions = [json.loads(line) for line in done.stdout.splitlines()]
    assert [prediction["file"] for prediction in predictions] == [str(image) for image in images]
    for prediction in predictions:
        known = {evidence["report_id"]: evidence["text"] for evidence in prediction["evidence"]}
        assert prediction["findings"]
        for sentence in prediction["findings"] + prediction["impression"]:
            first, *others = sentence["sources"]
            assert sentence["text"] in known[first]
            for source in others:  # say the same, perhaps in other letters or with another stop
                assert plain(sentence["text"]) in plain(known[source])
        assert "XXXX" not in json.dumps(prediction["findings"])


def test_a_study_of_the_collection_never_cites_itself(demo: Demo, shared_data: Path) -> None:
    image = next((shared_data / "openi" / "images").glob("CXR1000_*.jpg"))
    done = run(demo, "generate", "--json", image)
    prediction = json.loads(done.stdout)
    assert "CXR1000" not in {evidence["report_id"] for evidence in prediction["evidence"]}


def test_good_and_bad_images_in_one_run(demo: Demo, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.dcm", tmp_path / "bad.dcm"
    write_phantom_dicom(good, seed=5)
    bad.write_text("nothing")
    done = run(demo, "generate", "--json", "--sr", tmp_path / "sr", good, bad)
    assert done.returncode == 3
    (written,) = (tmp_path / "sr").iterdir()
    report = pydicom.dcmread(written)
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    assert report.StudyInstanceUID == pydicom.dcmread(good).StudyInstanceUID
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["status"] == "ok"
    assert second["status"] == "failed"
    assert second["error"] == "ImageReadError"
    assert "Traceback" not in done.stderr


def test_the_same_image_gives_the_same_draft(demo: Demo, tmp_path: Path) -> None:
    image = tmp_path / "image.dcm"
    write_phantom_dicom(image, seed=6)
    first, second = (json.loads(run(demo, "generate", "--json", image).stdout) for _ in range(2))
    for volatile in ("seconds",):
        first.pop(volatile), second.pop(volatile)
    assert first == second


def test_query_and_doctor_work_while_the_demo_runs(demo: Demo) -> None:
    found = run(demo, "query", "enlarged heart", "-k", "3", "--json")
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 3
    health = run(demo, "doctor")
    assert health.returncode == 0, health.stdout


def test_a_second_demo_says_that_the_port_is_taken(demo: Demo) -> None:
    done = run(demo, "demo")
    assert done.returncode == 3
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
