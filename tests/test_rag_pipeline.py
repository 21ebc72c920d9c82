"""The pipeline on a small real index (Chroma), with a fake encoder and a fake language model."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import fake_llm
from support.fake_encoder import FakeEncoder
from support.fake_llm import FakeLlm
from support.pacs import image as dicom_image
from support.small_batch import K, small_pipeline
from support.small_corpus import small_corpus

from demo.phantom import write_phantom_dicom
from rag.drafting.drafter import WITHOUT_MODEL, Drafter
from rag.drafting.requests import DraftInputs, selection_request
from rag.drafting.slots import consensus_slots
from rag.grounding import Verdict
from rag.index import Exclusions, build_index
from rag.pipeline import ReportPipeline
from rag.schema import NO_PREDICTED_FINDINGS, Status
from rag.study import Study, load


@pytest.fixture(scope="module")
def store_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    build_index(small_corpus(), FakeEncoder(), directory)
    return directory


@pytest.fixture
def llm() -> Iterator[FakeLlm]:
    with fake_llm.serve() as server:
        yield server


@pytest.fixture
def pipeline(store_dir: Path, llm: FakeLlm) -> Iterator[ReportPipeline]:
    with small_pipeline(store_dir, llm.url) as pipeline:
        yield pipeline


@pytest.fixture
def writing_pipeline(store_dir: Path, llm: FakeLlm) -> Iterator[ReportPipeline]:
    with small_pipeline(store_dir, llm.url, template="write_v3") as pipeline:
        yield pipeline


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    ramp = np.linspace(0, 241, 64 * 64).reshape(64, 64).astype(np.uint8)
    Image.fromarray(ramp).save(path)
    return path


def first_option_of_each_slot(pipeline: ReportPipeline, image: Path) -> str:
    """A valid answer to the request for this image."""
    prepared = pipeline.prepare(Study(image, "image"))
    assert prepared.retrieval is not None
    pool = prepared.retrieval.pool
    request = selection_request(DraftInputs(consensus_slots(pool, NO_PREDICTED_FINDINGS)))
    assert request is not None
    schema = request.schema
    return json.dumps({name: values["enum"][0] for name, values in schema["properties"].items()})


def test_the_draft_cites_reports_of_the_index(
    pipeline: ReportPipeline, llm: FakeLlm, image: Path
) -> None:
    llm.answers = [first_option_of_each_slot(pipeline, image)]
    prediction = pipeline.invoke(Study(image, "image.png"))
    assert prediction.status is Status.OK
    assert prediction.file == "image.png"
    assert len(prediction.hits) >= K, "what sentences come from stands behind the nearest"
    assert prediction.draft.findings
    for sentence in prediction.draft.findings + prediction.draft.impression:
        for source in sentence.sources:
            record = pipeline.retriever.index.get(source)
            assert record is not None
            assert sentence.text in record.text, "a selected sentence is verbatim"
    assert set(prediction.seconds) == {"read", "encode", "retrieve", "generate", "check", "total"}
    assert prediction.prompt_hash
    assert prediction.check is not None
    verdicts = {check.verdict for check in prediction.check.sentences}
    assert verdicts == {Verdict.SUPPORTED}, "what is verbatim in the evidence is supported by it"
    json.dumps(prediction.to_json())


def test_streamed_predictions_only_grow(
    pipeline: ReportPipeline, llm: FakeLlm, image: Path
) -> None:
    llm.answers = [first_option_of_each_slot(pipeline, image)]
    snapshots = list(pipeline.stream(Study(image, "image")))
    assert snapshots[0].hits == ()
    assert snapshots[1].hits
    assert snapshots[1].draft.findings == ()
    lengths = [len(s.draft.findings) + len(s.draft.impression) for s in snapshots]
    assert lengths == sorted(lengths)
    assert {s.status for s in snapshots[:-2]} == {Status.RUNNING}


def test_without_a_model_the_consensus_is_the_draft(
    pipeline: ReportPipeline, llm: FakeLlm, image: Path
) -> None:
    llm.answers = [first_option_of_each_slot(pipeline, image)]
    asked = pipeline.invoke(Study(image, "image"))
    requests = len(llm.requests)
    alone = ReportPipeline(
        analyzer=pipeline.analyzer,
        retriever=pipeline.retriever,
        drafter=Drafter(pipeline.drafter.template, None, limits=pipeline.drafter.limits),
    )
    prediction = alone.invoke(Study(image, "image"))
    assert prediction.status is Status.OK
    assert prediction.draft == asked.draft
    assert (prediction.llm, prediction.prompt, prediction.prompt_hash) == ("none", "", "")
    assert prediction.to_json()["llm"] == "none"
    assert WITHOUT_MODEL in prediction.warnings
    assert len(llm.requests) == requests


def test_a_study_without_an_id_gets_one(pipeline: ReportPipeline, image: Path) -> None:
    assert pipeline.invoke(Study(image, "some/image.png")).study_id == "image"
    assert pipeline.invoke(Study(image, "image.png", study_id="s7")).study_id == "s7"
    phantom = image.with_name("phantom.dcm")
    write_phantom_dicom(phantom, seed=1, size=256)
    study_id = pipeline.prepare(Study(phantom, "phantom.dcm")).prediction.study_id
    assert study_id.startswith("dcm-")
    assert pipeline.prepare(Study(image.with_name("none"), "")).prediction.study_id == "study"


def test_a_prepared_study_can_be_pickled(
    pipeline: ReportPipeline, llm: FakeLlm, image: Path
) -> None:
    llm.answers = [first_option_of_each_slot(pipeline, image)]
    prepared = pipeline.prepare(Study(image, "image"))
    again = pickle.loads(pickle.dumps(prepared))  # noqa: S301 - our own
    assert pipeline.finish(again).draft == pipeline.finish(prepared).draft
    assert len(pickle.dumps(prepared)) < 100_000


def test_the_same_study_or_patient_is_never_retrieved(
    pipeline: ReportPipeline, image: Path
) -> None:
    everything = pipeline.invoke(Study(image, "image")).hits
    nearest = everything[0].record
    without_study = pipeline.invoke(
        Study(image, "image", exclude=Exclusions(frozenset([nearest.study_id])))
    ).hits
    assert nearest.patient_id not in {hit.record.patient_id for hit in without_study}
    without_patient = pipeline.invoke(
        Study(image, "image", exclude=Exclusions(patients=frozenset([nearest.patient_id])))
    ).hits
    assert nearest.patient_id not in {hit.record.patient_id for hit in without_patient}
    assert len(without_patient) >= K


def test_excluded_reports_are_not_retrieved(pipeline: ReportPipeline, image: Path) -> None:
    first = pipeline.invoke(Study(image, "image")).hits[0].record.report_id
    again = pipeline.invoke(Study(image, "image", exclude=Exclusions(reports=frozenset([first]))))
    assert first not in {hit.record.report_id for hit in again.hits}


def test_after_an_invalid_answer_the_model_is_asked_once_more(
    writing_pipeline: ReportPipeline, llm: FakeLlm, image: Path
) -> None:
    source = writing_pipeline.invoke(Study(image, "f")).hits[0].record.report_id
    good = {"text": "Heart size is normal.", "sources": [source]}
    llm.requests.clear()
    llm.answers = ["no json", json.dumps({"findings": [good], "impression": [good]})]
    prediction = writing_pipeline.invoke(Study(image, "image"))
    assert prediction.status is Status.OK
    assert prediction.draft.findings[0].sources == (source,)
    assert len(llm.requests) == 2
    assert llm.requests[1]["messages"][-2]["content"].strip() == "no json"


@pytest.mark.parametrize(
    "answer",
    [
        "no json",
        '{"findings": 5, "impression": []}',
        '{"findings": [{"text": "Clear.", "sources": 5}], "impression": []}',
        '{"findings": [{"text": "Clear.", "sources": [["r000"]]}], "impression": []}',
    ],
)
def test_a_second_invalid_answer_is_a_failure_that_keeps_the_evidence(
    writing_pipeline: ReportPipeline, llm: FakeLlm, image: Path, answer: str
) -> None:
    llm.answers = [answer]
    prediction = writing_pipeline.invoke(Study(image, "image"))
    assert prediction.status is Status.FAILED
    assert prediction.error == "LlmFormError"
    assert len(prediction.hits) == K
    assert prediction.draft.findings == ()


def test_an_unreadable_image_fails_with_a_reason(pipeline: ReportPipeline, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not an image")
    prediction = pipeline.invoke(Study(path, "notes.txt"))
    assert prediction.status is Status.FAILED
    assert prediction.error == "ImageReadError"
    assert "notes.txt" in prediction.reason
    assert prediction.hits == ()


def test_a_blank_image_gets_no_draft(pipeline: ReportPipeline, tmp_path: Path) -> None:
    path = tmp_path / "blank.png"
    Image.new("L", (64, 64), 90).save(path)
    prediction = pipeline.invoke(Study(path, "blank.png"))
    assert prediction.status is Status.ABSTAINED
    assert "same value" in prediction.reason
    assert prediction.hits == ()


def test_a_colour_image_gets_no_draft(pipeline: ReportPipeline, tmp_path: Path) -> None:
    rows, columns = np.indices((64, 64))
    colours = np.stack([rows * 4, columns * 4, (rows * columns) % 256], axis=2).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "cat.png")
    prediction = pipeline.invoke(Study(tmp_path / "cat.png", "cat"))
    assert (prediction.status, prediction.error) == (Status.ABSTAINED, "NotAChestXray")
    assert "several colours" in prediction.reason
    assert prediction.hits == ()


def test_the_evidence_survives_an_unavailable_model(store_dir: Path, image: Path) -> None:
    with small_pipeline(store_dir, "http://127.0.0.1:9/v1") as pipeline:
        prediction = pipeline.invoke(Study(image, "image"))
        assert prediction.error == "LlmUnavailableError"
        assert len(prediction.hits) >= K


def test_a_view_that_does_not_belong_is_left_out_with_a_note(
    tmp_path: Path,
) -> None:
    Image.new("L", (64, 64), 90).save(tmp_path / "blank.png")
    frontal = dicom_image("1.2.3", PatientBirthDate="19800101", StudyDate="20260301")
    lateral = dicom_image("1.2.9", number=2, StudyDate="20260301")
    others = {
        tmp_path / "blank.png": "same value",
        dicom_image("1.2.3", number=3, BodyPartExamined="HAND"): "BodyPartExamined",
        dicom_image("1.2.3", number=4, PatientBirthDate="19500101"): "another patient",
        dicom_image("1.2.4", number=5, StudyDate="20250301"): "another study",
        b"no image": "not",
    }
    images = load(Study(frontal, "image", other_views=(lateral, *others)))
    assert len(images.views) == 2
    notes = [note for note in images.notes if note.startswith("view")]
    for number, (note, reason) in enumerate(zip(notes, others.values(), strict=True), 3):
        assert note.startswith(f"view {number} was not used: ")
        assert reason in note


def test_batch_returns_what_invoke_returns(
    pipeline: ReportPipeline, llm: FakeLlm, image: Path
) -> None:
    llm.answers = [first_option_of_each_slot(pipeline, image)]
    one = pipeline.invoke(Study(image, "image"))
    several = pipeline.batch([Study(image, "image")] * 3)
    assert [prediction.draft for prediction in several] == [one.draft] * 3


def test_the_retriever_returns_langchain_documents(pipeline: ReportPipeline) -> None:
    documents = pipeline.retriever.invoke("Heart size is normal.")
    assert len(documents) == K
    assert documents[0].metadata["report_id"] == documents[0].id
    similarities = [document.metadata["similarity"] for document in documents]
    assert similarities == sorted(similarities, reverse=True)
