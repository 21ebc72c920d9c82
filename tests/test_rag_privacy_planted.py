"""Identifiers planted in a header and in paths are in no output of a batch.

From header and grouping to prompt, answer, record, export and log. Reports with names are in
test_rag_privacy_reports.
"""

import logging
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from support import fake_choosing_llm, small_batch
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from demo.phantom import write_phantom_dicom
from rag.export.text import as_text
from rag.index import build_index
from rag.study import Study

pytestmark = pytest.mark.slow

NAMES = ("Quibblewick", "Thaddeus", "MRN-998877", "ACC-665544", "Penhaligon", "Ospedale Finto")


def planted(path: Path) -> str:
    """Write a phantom of an invented person; returns its StudyInstanceUID."""
    write_phantom_dicom(path, size=256)
    dataset = dcmread(path)
    dataset.PatientName, dataset.PatientID = "Quibblewick^Thaddeus", "MRN-998877"
    dataset.AccessionNumber, dataset.ReferringPhysicianName = "ACC-665544", "Penhaligon"
    dataset.InstitutionName, dataset.StudyDescription = "Ospedale Finto", "Quibblewick"
    dataset.PatientComments = dataset.ImageComments = "Thaddeus Quibblewick"
    dataset.ViewPosition, dataset.BodyPartExamined = "PA", "CHEST"
    dataset.StudyInstanceUID = generate_uid()
    dataset.save_as(path)
    return str(dataset.StudyInstanceUID)


def test_batch_output_contains_no_identifier(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, store, output = tmp_path / "in", tmp_path / "store", tmp_path / "out"
    folder.mkdir()
    uids = [planted(folder / "Quibblewick_Thaddeus.dcm"), planted(folder / "MRN-998877.dcm")]
    odd = dcmread(folder / "MRN-998877.dcm")
    odd.BodyPartExamined = "QUIBBLEWICK"
    odd.save_as(folder / "MRN-998877.dcm")
    (folder / "broken.dcm").write_bytes((folder / "MRN-998877.dcm").read_bytes()[:3000])
    build_index(small_corpus(), FakeEncoder(), store)
    caplog.set_level(logging.INFO)
    with fake_choosing_llm.serve() as llm:
        small_batch.run(folder, output, store=store, url=llm.url)
        with small_batch.small_pipeline(store, llm.url) as pipeline:
            study = Study(folder / "Quibblewick_Thaddeus.dcm", "image-1")
            exported = as_text(pipeline.invoke(study))
        prompts = "\n".join(map(str, llm.prompts))
    artefacts = {path.name: path.read_text() for path in output.rglob("*") if path.is_file()}
    assert {"predictions.jsonl", "summary.json"} <= artefacts.keys()
    # the table of images and studies, which only the user can read
    artefacts.pop("studies.jsonl")
    artefacts |= {"log": caplog.text, "prompts": prompts, "export": exported}
    artefacts |= {
        f"store {path.name}": path.read_bytes().decode("latin-1")
        for path in store.rglob("*")
        if path.is_file()
    }
    assert len(prompts) > 100
    for name in (*NAMES, *uids):
        for where, content in artefacts.items():
            assert name.lower() not in content.lower(), f"{name} in {where}"
