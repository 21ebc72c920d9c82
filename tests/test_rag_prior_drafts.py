"""A prior in pipeline, batch, exports and commands: it is used, and its patient is never named."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from support import fake_choosing_llm, small_batch
from support.fake_encoder import FakeEncoder
from support.pacs import assert_not_identified, short_uid
from support.pacs import report as write_report
from support.small_corpus import small_corpus

from demo.phantom import write_phantom_dicom
from prompts.render import load_template
from rag.batch.grouping import group_images
from rag.batch.inputs import BatchStudy, list_images
from rag.change import Change, ChangeModel
from rag.drafting.drafter import Drafter
from rag.errors import UsageError
from rag.export import DOCUMENT_FORMATS, as_document
from rag.export.text import Export, as_text
from rag.image_analysis import NO_CHANGE_MODEL, ImageAnalyzer
from rag.index import ReportIndex, build_index
from rag.pipeline import ReportPipeline
from rag.priors import Prior
from rag.retriever import ReportRetriever
from rag.schema import PRIOR, PredictedFindings, Status
from rag.settings import AbstentionSettings
from rag.study import NO_REGION, Study

REPORT = "FINDINGS: The heart is enlarged, Dr. Quibblewick. No pleural effusion."
AGAIN = "Cardiomegaly is again seen, as in the prior study."
SURE = {"Cardiomegaly": [5, 1]}
MODEL = ChangeModel("fake@1", {"absent": SURE, "present": SURE}, {"persists": 0.7})


@dataclass
class FakePredictor:
    """Sees a large heart on everything."""

    def predict(self, vector: NDArray[np.float32]) -> PredictedFindings:
        return PredictedFindings({"Cardiomegaly": 0.8}, ("Cardiomegaly",), threshold=0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    build_index(small_corpus(), FakeEncoder(), directory)
    return directory


@pytest.fixture
def pipeline(store: Path) -> Iterator[ReportPipeline]:
    encoder = FakeEncoder()
    with ReportIndex(store, encoder=encoder) as opened:
        yield ReportPipeline(
            analyzer=ImageAnalyzer(encoder, findings=FakePredictor(), change_model=MODEL),  # type: ignore[arg-type]
            retriever=ReportRetriever(index=opened, encoder=encoder, k=4),
            drafter=Drafter(
                load_template("select_v1"), None, limits=AbstentionSettings(similarity=-1)
            ),
        )


def film(path: Path, day: str, *, patient: str = "MRN-998877") -> Path:
    """A phantom of an invented person on a day."""
    write_phantom_dicom(path, size=256, seed=int(day) % 97)
    dataset = dcmread(path)
    dataset.PatientName, dataset.PatientID = "Quibblewick^Thaddeus", patient
    dataset.ViewPosition, dataset.BodyPartExamined = "PA", "CHEST"
    dataset.StudyDate, dataset.StudyInstanceUID = day, short_uid()
    dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
    dataset.save_as(path)
    return path


@pytest.fixture
def current(tmp_path: Path) -> Path:
    return film(tmp_path / "current.dcm", "20260301")


def test_a_draft_compares_with_the_prior_in_all_outputs(
    pipeline: ReportPipeline, current: Path, tmp_path: Path
) -> None:
    before = film(tmp_path / "before.dcm", "20260219")
    prior = Prior(files=(before,), report=REPORT)
    found = pipeline.invoke(Study(current, "image", prior=prior))
    assert found.status is Status.OK
    assert found.prior is not None
    assert (found.prior.images, found.prior.days_before) == (1, 10)
    (row,) = found.prior.changes
    assert (row.verdict, row.prior_probability) == (Change.PERSISTS, 0.8)
    last = found.draft.findings[-1]
    assert (last.text, last.sources) == (AGAIN, (PRIOR,))
    sentence = found.to_json()["findings"][-1]
    assert (sentence["cited"], sentence["verdict"]) == ("same meaning", "supported")
    text = as_text(found)
    assert f"{AGAIN} [prior]" in text
    assert "Since the prior study, 10 days earlier (experimental)" in text


def test_no_output_names_the_priors_patient(
    pipeline: ReportPipeline, current: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = film(tmp_path / "before.dcm", "20260219")
    uid = str(dcmread(before).StudyInstanceUID)
    prior = Prior(files=(before,), report=REPORT)
    found = pipeline.invoke(Study(current, "image", prior=prior))
    for text in (json.dumps(found.to_json()), as_text(found), caplog.text, repr(found.prior)):
        assert_not_identified(text, uid, "20260219", "2026-02-19")
    for form in DOCUMENT_FORMATS:  # these name the patient, by the image's own header alone
        content = as_document(Export.from_prediction(found), form, image=current).decode(
            "utf-8", "replace"
        )
        assert uid not in content
        assert "20260219" not in content


def test_without_a_prior_no_output_mentions_one(pipeline: ReportPipeline, current: Path) -> None:
    found = pipeline.invoke(Study(current, "image"))
    assert found.prior is None
    assert "prior" not in json.dumps(found.to_json()["findings"])
    assert "prior" not in found.to_json()
    assert "prior study" not in as_text(found)


def test_reports_of_the_priors_patient_are_never_evidence(
    pipeline: ReportPipeline, tmp_path: Path
) -> None:
    image = small_batch.draw_image(tmp_path / "image.png", 1)  # without a header
    everybody = [hit.record for hit in pipeline.prepare(Study(image, "image")).prediction.hits]
    patient = everybody[0].patient_id
    prior = Prior(files=(film(tmp_path / "before.dcm", "20260219", patient=patient),))
    study = Study(image, "image", prior=prior)
    found = pipeline.prepare(study).prediction.hits
    ((searched, _),) = pipeline.search_regions(study, [NO_REGION])
    assert searched == found
    assert patient not in {hit.record.patient_id for hit in searched}


def test_another_patients_prior_is_a_failure_without_identifiers(
    pipeline: ReportPipeline, current: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = film(tmp_path / "other.dcm", "20260101", patient="MRN-112233")
    found = pipeline.invoke(Study(current, "image", prior=Prior(files=(other,))))
    assert (found.status, found.error) == (Status.FAILED, "PriorMismatchError")
    assert not found.draft.findings
    assert found.seconds["prior"] > 0
    assert_not_identified(json.dumps(found.to_json()) + caplog.text, "112233")


def test_an_unreadable_prior_image_is_skipped_with_a_note(
    pipeline: ReportPipeline, current: Path, tmp_path: Path
) -> None:
    broken = film(tmp_path / "broken.dcm", "20260219")
    broken.write_bytes(broken.read_bytes()[:2000])
    pipeline.analyzer.change_model = None
    found = pipeline.invoke(Study(current, "image", prior=Prior(REPORT, files=(broken,))))
    assert found.status is Status.OK
    assert found.prior is not None
    assert found.prior.images == 0
    assert any("prior's image was not used" in note for note in found.warnings)
    assert NO_CHANGE_MODEL in found.warnings


def studies_of(source: Path) -> dict[Path, BatchStudy]:
    return {study.source: study for study in group_images(list_images(source).images)[0]}


def test_in_a_folder_the_newest_earlier_study_of_the_patient_is_the_prior(tmp_path: Path) -> None:
    first, second, last, other = (
        film(tmp_path / name, day, patient=patient)
        for name, day, patient in (
            ("a.dcm", "20250101", "MRN-998877"),
            ("b.dcm", "20260101", "MRN-998877"),
            ("c.dcm", "20260301", "MRN-998877"),
            ("d.dcm", "20260201", "MRN-112233"),
        )
    )
    signed = write_report(tmp_path / "report.dcm", image=second, signed=True)
    studies = studies_of(tmp_path)
    assert studies[last].prior.files == (second, signed)
    assert studies[second].prior.files == (first,)
    assert not studies[first].prior
    assert not studies[other].prior


def test_a_batch_of_two_dates_compares_the_later_one(store: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    film(folder / "a.dcm", "20260101")
    film(folder / "b.dcm", "20260301")
    with fake_choosing_llm.serve() as llm:
        small_batch.run(folder, output, store=store, url=llm.url)
    lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    priors = [line["prior"] for line in lines if "prior" in line]
    assert len(lines) == 2
    assert [(prior["images"], prior["days_before"]) for prior in priors] == [(1, 59)]
    assert "2026" not in json.dumps(priors)


def test_ids_in_the_priors_path_are_never_evidence(
    pipeline: ReportPipeline, tmp_path: Path
) -> None:
    image = small_batch.draw_image(tmp_path / "image.png", 1)
    record = pipeline.prepare(Study(image, "image")).prediction.hits[0].record
    folder = tmp_path / "before"
    picture = small_batch.draw_image(tmp_path / f"{record.study_id}.png", 2)
    text = folder / f"{record.study_id}.txt"
    folder.mkdir()
    text.write_text(REPORT)
    for prior in (Prior(files=(text,)), Prior(files=(picture,)), Prior(files=(folder,))):
        found = pipeline.prepare(Study(image, "image", prior=prior)).prediction.hits
        assert record.patient_id not in {hit.record.patient_id for hit in found}


def test_a_list_names_a_prior_by_files_text_and_date(tmp_path: Path) -> None:
    small_batch.draw_image(tmp_path / "f.png", 1)
    row = {"study_id": "S1", "image": "f.png", "prior": ["old.png", "old.txt"]}
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps({**row, "prior_report": "Effusion.", "prior_date": "2026-01-31"}))
    (study,) = studies_of(path).values()
    files = (tmp_path / "old.png", tmp_path / "old.txt")
    assert study.prior == Prior("Effusion.", date="2026-01-31", files=files)
    path.write_text(json.dumps({**row, "prior_date": "31.1.2026"}))
    with pytest.raises(UsageError, match="prior_date"):
        studies_of(path)
