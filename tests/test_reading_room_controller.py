"""A reader's steps, on a real store and record with a fake encoder and model."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pypdf import PdfReader
from support.small_room import Room

from encoders.images.image_io import read_image
from rag.change import PriorEvidence
from rag.errors import CxrRagError, ServerError
from rag.export import DOCUMENT_FORMATS
from rag.export.text import SIGNED_NOTICE
from rag.grounding import Verdict
from rag.prediction import Prediction
from rag.review.replay import replay
from rag.review.reviewed_report import ReviewError, State
from rag.schema import NOTICE, PRIOR, Hit, Status
from rag.study import Study
from reading_room import session as sessions
from reading_room.draft_panel import FORMATS
from reading_room.session import ControllerError, Current, Session, SupersededError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drafted(room: Room, image: Path) -> Session:
    *_, last = room.controller.draft(
        room.controller.open_images([image], reader="a"), indication="Cough."
    )
    return last


def decided(room: Room, session: Session) -> Session:
    assert session.report
    for line in session.report.lines:
        session = room.controller.act(session, {"op": "accept", "line": line.key})
    return session


def ruled_out(room: Room, session: Session, report_id: str) -> Session:
    return room.controller.act(session, {"op": "rule-out", "report": report_id})


def exported(room: Room, session: Session, form: str) -> bytes:
    name = room.controller.export(session, form, reader="a")
    path = room.file_store.find(name, reader="a")
    assert path
    return path.read_bytes()


def test_evidence_comes_before_the_draft(room: Room, image: Path) -> None:
    steps = list(room.controller.draft(room.controller.open_images([image], reader="a")))
    first = next(step for step in steps if step.prediction and step.prediction.hits)
    assert first.report is None
    assert not first.prediction.draft.findings
    assert steps[-1].report


def test_a_signed_report_is_locked_and_only_added_to(room: Room, drafted: Session) -> None:
    with pytest.raises(ReviewError, match="not decided"):
        room.controller.sign(drafted, "Roe, Jane")
    signed = room.controller.sign(decided(room, drafted), "Roe, Jane")
    assert signed.report.state is State.SIGNED
    key = signed.report.lines[0].key
    for action in (
        {"op": "edit", "line": key, "text": "Other words."},
        {"op": "remove", "line": key},
        {"op": "add", "section": "findings", "text": "More."},
        {"op": "undo"},
    ):
        with pytest.raises(CxrRagError, match="addendum"):
            room.controller.act(signed, action)
    added = room.controller.add_addendum(signed, "The drain was removed.", "Roe, Jane")
    assert added.report.state is State.ADDENDUM
    assert added.report.lines == signed.report.lines
    events = [entry.event for entry in room.audit.entries_of(drafted.draft_id)]
    assert events[0] == "draft"
    assert events[-2:] == ["sign", "addendum"]


def test_an_edit_is_recorded_with_both_texts_and_its_seconds(room: Room, image: Path) -> None:
    *_, session = room.controller.draft(room.controller.open_images([image], reader="a"))
    line = session.report.lines[0]
    edited = room.controller.act(session, {"op": "edit", "line": line.key, "text": "My words."})
    entry = room.audit.entries_of(session.draft_id)[-1]
    assert (entry.data["before"], entry.data["after"]) == (line.text, "My words.")
    assert entry.data["seconds"] >= 0
    assert edited.report.line(line.key).sources == ()
    assert room.controller.act(edited, {"op": "undo"}).report == session.report


def test_a_sentence_edited_back_cites_its_sources_again(room: Room, drafted: Session) -> None:
    line = drafted.report.lines[0]
    session = drafted
    for text in ("Something quite different.", line.drafted):
        session = room.controller.act(session, {"op": "edit", "line": line.key, "text": text})
    again = session.report.line(line.key)
    assert (again.decision, again.sources) == ("accepted", line.sources)


def test_a_sentence_of_a_report_brings_its_source(room: Room, drafted: Session) -> None:
    record = drafted.prediction.hits[0].record
    used = room.controller.act(drafted, {"op": "use", "report": record.report_id, "number": 0})
    assert any(
        line.sources == (record.report_id,) and line.text == record.sentence(record.sentences[0])
        for line in used.report.lines
    )


@pytest.mark.parametrize(
    "action",
    [
        {},
        {"op": "use", "report": "r999", "number": 0},
        {"op": "use", "report": "r000", "number": 10**9},
        {"op": "edit", "line": "0", "text": "x"},
        {"op": "edit", "line": True, "text": "x"},
        {"op": "remove", "line": 10**6},
        {"op": "add", "section": "../x", "text": "y"},
        {"op": "add", "section": "findings", "text": "  "},
        {"op": "add", "section": "findings", "text": "y" * 10_000},
        {"op": ["nested"]},
    ],
)
def test_what_the_browser_must_not_ask_is_refused(
    room: Room, drafted: Session, action: dict[str, object]
) -> None:
    with pytest.raises(CxrRagError):
        room.controller.act(drafted, action)


def test_a_report_ruled_out_does_not_come_back(room: Room, drafted: Session) -> None:
    gone = drafted.prediction.hits[0].record.report_id
    *_, again = room.controller.draft(ruled_out(room, drafted, gone))
    assert gone not in {hit.record.report_id for hit in again.prediction.hits}
    with pytest.raises(ControllerError):
        ruled_out(room, drafted, "r999")


def test_without_a_model_the_evidence_can_still_be_composed_from(room: Room, image: Path) -> None:
    room.llm.status = lambda prompt: 500
    try:
        *_, session = room.controller.draft(room.controller.open_images([image], reader="a"))
    finally:
        room.llm.status = lambda prompt: 200
    assert session.prediction.status is Status.FAILED
    record = session.prediction.hits[0].record
    session = room.controller.act(session, {"op": "use", "report": record.report_id, "number": 0})
    signed = room.controller.sign(session, "Roe")
    assert "Signed by Roe" in exported(room, signed, "text").decode()


@pytest.mark.parametrize("form", FORMATS)
def test_every_export_says_ai_draft_until_it_is_signed(
    room: Room, drafted: Session, form: str
) -> None:
    signed = room.controller.sign(decided(room, drafted), "Roe, Jane")
    before, after = (words(form, exported(room, each, form)) for each in (drafted, signed))
    assert NOTICE in before
    assert NOTICE not in after
    assert SIGNED_NOTICE in after
    assert drafted.prediction.llm in after
    assert drafted.prediction.index_id.replace("\n", "")[:8] in after


def words(form: str, content: bytes) -> str:
    if form == "pdf":
        pages = PdfReader(BytesIO(content)).pages
        return " ".join(" ".join(page.extract_text() for page in pages).split())
    if form == "dicom":
        elements = pydicom.dcmread(BytesIO(content)).iterall()
        return "\n".join(str(element.value) for element in elements if element.VR != "SQ")
    return content.decode()


def test_nothing_of_the_header_or_the_file_name_leaves_but_in_documents(
    room: Room, tmp_path: Path, image: Path
) -> None:
    header = pydicom.dcmread(image)
    header.PatientName, header.PatientID = "Doe^Zebediah", "HOSPITAL-47XQ11"
    named = tmp_path / "zebediah-doe.dcm"
    header.save_as(named)
    *_, session = room.controller.draft(room.controller.open_images([named], reader="a"))
    for form in FORMATS:
        content = words(form, exported(room, session, form)).lower()
        if form not in DOCUMENT_FORMATS:
            assert "zebediah" not in content
            assert "47xq11" not in content
    record = room.audit.path.read_text().lower()
    assert "zebediah" not in record
    assert "47xq11" not in record


def test_the_json_holds_what_the_reader_did(room: Room, drafted: Session) -> None:
    key = drafted.report.lines[0].key
    session = room.controller.act(drafted, {"op": "edit", "line": key, "text": "My words."})
    report = json.loads(exported(room, session, "json"))["report"]
    assert report["state"] == "edited"
    line = next(each for each in report["findings"] if each["decision"] == "edited")
    assert line["text"] == "My words."
    assert line["drafted"] == drafted.report.lines[0].text


def test_a_png_has_no_document(room: Room, drafted: Session, tmp_path: Path) -> None:
    no_dicom = tmp_path / "image.png"
    no_dicom.write_bytes(b"\x89PNG")
    images = (replace(drafted.images[0], path=str(no_dicom)),)
    for form in DOCUMENT_FORMATS:
        with pytest.raises(ControllerError, match="needs a DICOM image"):
            room.controller.export(replace(drafted, images=images), form, reader="a")


def test_the_prompt_can_be_made_again_to_the_byte(room: Room, drafted: Session) -> None:
    made = replay(room.audit, drafted.draft_id, store=room.store)
    assert made.is_identical
    assert tuple(made.prompt.messages) == drafted.prediction.messages
    assert made.answer == drafted.prediction.answer
    assert made.differences == ()


def test_too_many_images_and_rubbish_are_refused_with_a_cure(
    room: Room, image: Path, tmp_path: Path
) -> None:
    with pytest.raises(ControllerError, match="At most 4"):
        room.controller.open_images([image] * 5, reader="a")
    rubbish = tmp_path / "x.dcm"
    rubbish.write_bytes(b"\0" * 4096)
    with pytest.raises(ControllerError, match="DICOM"):
        room.controller.open_images([rubbish], reader="a")
    with pytest.raises(ControllerError):
        list(room.controller.draft(Session()))


def test_images_of_one_reader_are_not_found_by_another(room: Room, image: Path) -> None:
    session = room.controller.open_images([image], reader="a")
    name = session.images[0].url.removeprefix("image/")
    assert room.file_store.find(name, reader="a")
    assert room.file_store.find(name, reader="b") is None
    assert room.file_store.find("../" + name, reader="a") is None


def test_uploads_and_exports_are_deleted_after_their_time(tmp_path: Path) -> None:
    from reading_room.file_store import FileStore  # noqa: PLC0415

    file_store = FileStore(tmp_path / "file_store", keep_seconds=60)
    name = file_store.put(b"image", reader="a")
    path = file_store.find(name, reader="a")
    assert path
    born = path.stat().st_mtime
    assert file_store.sweep(now=born + 59) == 0
    assert file_store.sweep(now=born + 61) == 1
    assert file_store.find(name, reader="a") is None
    another = file_store.put(b"another", reader="a")
    with pytest.raises(ServerError, match="--port"):  # a second page, started by mistake
        FileStore(file_store.folder, keep_seconds=60)
    assert file_store.find(another, reader="a")
    file_store.close()
    assert not file_store.folder.exists()


REGION = {"boxes": [[0.1, 0.1, 0.3, 0.3]]}


def ids(hits: tuple[Hit, ...]) -> list[str]:
    return [hit.record.report_id for hit in hits]


def test_a_region_draws_the_evidence_and_can_be_taken_back(room: Room, drafted: Session) -> None:
    pointed = room.controller.set_region(drafted, REGION)
    assert pointed.report == drafted.report
    made_with = ids(drafted.prediction.hits)  # retrieved, then cited beside them
    assert ids(pointed.image_hits) == made_with[: len(pointed.image_hits)]
    assert ids(pointed.region_hits) != ids(pointed.image_hits)
    shown = {*ids(pointed.region_hits), *ids(pointed.image_hits), *made_with}
    assert set(ids(pointed.evidence)) == shown
    entry = room.audit.entries_of(drafted.draft_id)[-1]
    assert entry.event == "region"
    assert entry.data == {**REGION, "evidence": ids(pointed.region_hits)}
    cleared = room.controller.set_region(pointed, {})
    assert not cleared.region
    assert cleared.evidence == drafted.evidence


def test_a_region_before_any_draft_and_the_draft_made_with_it(room: Room, image: Path) -> None:
    session = room.controller.set_region(room.controller.open_images([image], reader="a"), REGION)
    assert session.prediction is None
    assert ids(session.evidence)[: len(session.region_hits)] == ids(session.region_hits)
    *_, drafted = room.controller.draft(session)
    nearest = ids(session.region_hits)  # after these come further reports that sentences cite
    assert ids(drafted.prediction.hits)[: len(nearest)] == nearest
    entry = room.audit.entries_of(drafted.draft_id)[0]
    assert entry.data["region"] == REGION


def test_pointing_before_any_draft_reads_the_image_once(
    room: Room, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, read = room.controller.open_images([image], reader="a"), []
    monkeypatch.setattr(
        "rag.study.read_image",
        lambda source, **names: read.append(source) or read_image(source, **names),
    )
    pointed = room.controller.set_region(session, REGION)
    assert read == [image]
    assert ids(pointed.image_hits) == ids(
        room.pipeline.prepare(Study(image, "image")).prediction.hits
    )


def test_a_sentence_of_a_report_that_came_brings_the_report_into_the_evidence(
    room: Room, drafted: Session
) -> None:
    pointed = room.controller.set_region(drafted, REGION)
    came = next(
        hit for hit in pointed.region_hits if hit.record.report_id not in ids(pointed.image_hits)
    )
    used = room.controller.act(pointed, {"op": "use", "report": came.record.report_id, "number": 0})
    assert ids(used.prediction.hits)[-1] == came.record.report_id
    assert all(check.verdict is Verdict.SUPPORTED for check in used.check.sentences[-1:])
    kept = json.loads(exported(room, used, "json"))["evidence"]
    assert came.record.report_id in {each["report_id"] for each in kept}


def test_no_region_without_an_image_and_no_step_after_the_signature(
    room: Room, drafted: Session
) -> None:
    with pytest.raises(ControllerError):
        room.controller.set_region(Session(), REGION)
    gone = replace(drafted.images[0], path="/nowhere/image.dcm")  # deleted after its time
    with pytest.raises(ControllerError, match="no longer on the server"):
        room.controller.set_prior(
            replace(drafted, images=(gone,)), [], text="Effusion.", reader="a"
        )
    signed = room.controller.sign(decided(room, drafted), "Roe, Jane")
    with pytest.raises(ControllerError, match="addendum"):
        room.controller.set_region(signed, REGION)
    with pytest.raises(ControllerError, match="addendum"):
        next(room.controller.draft(signed))
    with pytest.raises(CxrRagError, match="finite"):
        room.controller.set_region(drafted, {"boxes": [["<script>", 1, 1, 1]]})


def test_what_is_decided_during_a_slow_step_stays(room: Room, drafted: Session) -> None:
    current, line = Current(drafted), drafted.report.lines[0].key

    def searched(session: Session) -> Session:
        current.apply(lambda now: room.controller.act(now, {"op": "accept", "line": line}))
        current.apply(lambda now: ruled_out(room, now, ids(now.evidence)[0]))
        return room.controller.set_region(session, REGION)

    session = current.apply(searched)
    assert session.region
    assert session.report.line(line).decision == "accepted"
    assert session.ruled_out == {ids(drafted.evidence)[0]}


def test_a_step_for_other_images_or_another_draft_changes_nothing(
    room: Room, drafted: Session, image: Path
) -> None:
    current = Current(drafted)

    def other_image(session: Session) -> Session:
        current.session = room.controller.open_images([image], reader="a")
        return room.controller.set_region(session, REGION)

    with pytest.raises(SupersededError):
        current.apply(other_image)
    assert current.session == Session(images=current.session.images)
    current = Current(drafted)
    *_, again = room.controller.draft(drafted)

    def late(session: Session) -> Session:
        current.put(again, before=drafted)
        return room.controller.act(session, {"op": "accept-supported"})

    with pytest.raises(SupersededError):
        current.apply(late)
    assert current.session.report == again.report


def test_an_edited_comparison_still_rests_on_the_prior() -> None:
    prior = PriorEvidence("FINDINGS: Left pleural effusion.")
    found = Prediction(file="image", status=Status.OK, prior=prior)
    text = "Left pleural effusion is again seen since the prior study."
    assert sessions._supporting(found, text, (PRIOR,)) == (PRIOR,)
    assert sessions._supporting(found, "Left pneumothorax is again seen.", (PRIOR,)) == ()
