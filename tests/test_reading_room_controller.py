"""A reader's actions, on a real index and audit record with a fake encoder and model."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pypdf import PdfReader
from support.small_room import Room

from encoders.image_io import read_image
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
from reading_room.draft_panel import EXPORT_SUFFIXES
from reading_room.session import ActionError, CurrentSession, Session, SupersededError

pytestmark = pytest.mark.slow


def draft_image(room: Room, image: Path) -> Session:
    session = room.controller.open_images([image], reader="a")
    *_, drafted = room.controller.draft(session, indication="Cough.")
    return drafted


@pytest.fixture(scope="module")
def drafted(room: Room, image: Path) -> Session:
    return draft_image(room, image)


def accept_all(room: Room, session: Session) -> Session:
    assert session.report
    for line in session.report.lines:
        session = room.controller.act(session, {"op": "accept", "line": line.key})
    return session


def rule_out(room: Room, session: Session, report_id: str) -> Session:
    return room.controller.act(session, {"op": "rule-out", "report": report_id})


def export(room: Room, session: Session, form: str) -> bytes:
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


def test_a_signed_report_takes_addenda_only(room: Room, drafted: Session) -> None:
    with pytest.raises(ReviewError, match="have no decision"):
        room.controller.sign(drafted, "Roe, Jane")
    signed = room.controller.sign(accept_all(room, drafted), "Roe, Jane")
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


def test_an_edit_is_recorded_with_both_texts_and_its_time(room: Room, image: Path) -> None:
    session = draft_image(room, image)
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


def test_a_sentence_used_from_a_report_cites_it(room: Room, drafted: Session) -> None:
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
def test_invalid_actions_are_refused(
    room: Room, drafted: Session, action: dict[str, object]
) -> None:
    with pytest.raises(CxrRagError):
        room.controller.act(drafted, action)


def test_a_report_ruled_out_is_not_retrieved_again(room: Room, drafted: Session) -> None:
    gone = drafted.prediction.hits[0].record.report_id
    *_, again = room.controller.draft(rule_out(room, drafted, gone))
    assert gone not in {hit.record.report_id for hit in again.prediction.hits}
    with pytest.raises(ActionError):
        rule_out(room, drafted, "r999")


def test_without_a_model_a_report_can_be_composed_from_the_evidence(
    room: Room, image: Path
) -> None:
    room.llm.status = lambda prompt: 500
    try:
        session = draft_image(room, image)
    finally:
        room.llm.status = lambda prompt: 200
    assert session.prediction.status is Status.FAILED
    record = session.prediction.hits[0].record
    session = room.controller.act(session, {"op": "use", "report": record.report_id, "number": 0})
    signed = room.controller.sign(session, "Roe")
    assert "Signed by Roe" in export(room, signed, "text").decode()


@pytest.mark.parametrize("form", EXPORT_SUFFIXES)
def test_every_export_says_ai_draft_until_signed(room: Room, drafted: Session, form: str) -> None:
    signed = room.controller.sign(accept_all(room, drafted), "Roe, Jane")
    before, after = (
        export_text(form, export(room, session, form)) for session in (drafted, signed)
    )
    assert NOTICE in before
    assert NOTICE not in after
    assert SIGNED_NOTICE in after
    assert drafted.prediction.llm in after
    assert drafted.prediction.index_id.replace("\n", "")[:8] in after


def export_text(form: str, content: bytes) -> str:
    if form == "pdf":
        pages = PdfReader(BytesIO(content)).pages
        return " ".join(" ".join(page.extract_text() for page in pages).split())
    if form == "dicom":
        elements = pydicom.dcmread(BytesIO(content)).iterall()
        return "\n".join(str(element.value) for element in elements if element.VR != "SQ")
    return content.decode()


def test_only_documents_contain_header_values_and_none_the_file_name(
    room: Room, tmp_path: Path, image: Path
) -> None:
    header = pydicom.dcmread(image)
    header.PatientName, header.PatientID = "Doe^Zebediah", "HOSPITAL-47XQ11"
    named = tmp_path / "zebediah-doe.dcm"
    header.save_as(named)
    session = draft_image(room, named)
    for form in EXPORT_SUFFIXES:
        content = export_text(form, export(room, session, form)).lower()
        if form not in DOCUMENT_FORMATS:
            assert "zebediah" not in content
            assert "47xq11" not in content
    record = room.audit.path.read_text().lower()
    assert "zebediah" not in record
    assert "47xq11" not in record


def test_the_json_export_has_the_readers_decisions(room: Room, drafted: Session) -> None:
    key = drafted.report.lines[0].key
    session = room.controller.act(drafted, {"op": "edit", "line": key, "text": "My words."})
    report = json.loads(export(room, session, "json"))["report"]
    assert report["state"] == "edited"
    line = next(line for line in report["findings"] if line["decision"] == "edited")
    assert line["text"] == "My words."
    assert line["drafted"] == drafted.report.lines[0].text


def test_documents_need_a_dicom_image(room: Room, drafted: Session, tmp_path: Path) -> None:
    no_dicom = tmp_path / "image.png"
    no_dicom.write_bytes(b"\x89PNG")
    images = (replace(drafted.images[0], path=str(no_dicom)),)
    for form in DOCUMENT_FORMATS:
        with pytest.raises(ActionError, match="needs a DICOM image"):
            room.controller.export(replace(drafted, images=images), form, reader="a")


def test_replay_rebuilds_the_prompt_byte_for_byte(room: Room, drafted: Session) -> None:
    made = replay(room.audit, drafted.draft_id, index=room.store)
    assert made.is_identical
    assert tuple(made.prompt.messages) == drafted.prediction.messages
    assert made.answer == drafted.prediction.answer
    assert made.differences == ()


def test_too_many_or_unreadable_images_are_refused_with_a_cure(
    room: Room, image: Path, tmp_path: Path
) -> None:
    with pytest.raises(ActionError, match="At most 4"):
        room.controller.open_images([image] * 5, reader="a")
    unreadable = tmp_path / "x.dcm"
    unreadable.write_bytes(b"\0" * 4096)
    with pytest.raises(ActionError, match="DICOM"):
        room.controller.open_images([unreadable], reader="a")
    with pytest.raises(ActionError):
        list(room.controller.draft(Session()))


def test_a_reader_cannot_find_another_readers_images(room: Room, image: Path) -> None:
    session = room.controller.open_images([image], reader="a")
    name = session.images[0].url.removeprefix("image/")
    assert room.file_store.find(name, reader="a")
    assert room.file_store.find(name, reader="b") is None
    assert room.file_store.find("../" + name, reader="a") is None


def test_stored_files_expire(tmp_path: Path) -> None:
    from reading_room.file_store import FileStore  # noqa: PLC0415

    file_store = FileStore(tmp_path / "file_store", keep_seconds=60)
    name = file_store.put(b"image", reader="a")
    path = file_store.find(name, reader="a")
    assert path
    created = path.stat().st_mtime
    assert file_store.delete_expired(now=created + 59) == 0
    assert file_store.delete_expired(now=created + 61) == 1
    assert file_store.find(name, reader="a") is None
    another = file_store.put(b"another", reader="a")
    with pytest.raises(ServerError, match="--port"):  # a second page with the same folder
        FileStore(file_store.folder, keep_seconds=60)
    assert file_store.find(another, reader="a")
    file_store.close()
    assert not file_store.folder.exists()


REGION = {"boxes": [[0.1, 0.1, 0.3, 0.3]]}


def ids(hits: tuple[Hit, ...]) -> list[str]:
    return [hit.record.report_id for hit in hits]


def test_a_region_changes_the_evidence_and_can_be_cleared(room: Room, drafted: Session) -> None:
    with_region = room.controller.set_region(drafted, REGION)
    assert with_region.report == drafted.report
    made_with = ids(drafted.prediction.hits)  # the retrieved reports, then others that are cited
    assert ids(with_region.image_hits) == made_with[: len(with_region.image_hits)]
    assert ids(with_region.region_hits) != ids(with_region.image_hits)
    shown = {*ids(with_region.region_hits), *ids(with_region.image_hits), *made_with}
    assert set(ids(with_region.evidence)) == shown
    entry = room.audit.entries_of(drafted.draft_id)[-1]
    assert entry.event == "region"
    assert entry.data == {**REGION, "evidence": ids(with_region.region_hits)}
    cleared = room.controller.set_region(with_region, {})
    assert not cleared.region
    assert cleared.evidence == drafted.evidence


def test_a_region_marked_before_the_draft_is_drafted_with(room: Room, image: Path) -> None:
    session = room.controller.set_region(room.controller.open_images([image], reader="a"), REGION)
    assert session.prediction is None
    assert ids(session.evidence)[: len(session.region_hits)] == ids(session.region_hits)
    *_, drafted = room.controller.draft(session)
    nearest = ids(session.region_hits)  # after these come others that are cited
    assert ids(drafted.prediction.hits)[: len(nearest)] == nearest
    entry = room.audit.entries_of(drafted.draft_id)[0]
    assert entry.data["region"] == REGION


def test_a_region_before_any_draft_reads_the_image_once(
    room: Room, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, read = room.controller.open_images([image], reader="a"), []
    monkeypatch.setattr(
        "rag.study.read_image",
        lambda source, **names: read.append(source) or read_image(source, **names),
    )
    with_region = room.controller.set_region(session, REGION)
    assert read == [image]
    assert ids(with_region.image_hits) == ids(
        room.pipeline.prepare(Study(image, "image")).prediction.hits
    )


def test_using_a_sentence_of_a_report_found_by_region_makes_it_evidence(
    room: Room, drafted: Session
) -> None:
    with_region = room.controller.set_region(drafted, REGION)
    added = next(
        hit
        for hit in with_region.region_hits
        if hit.record.report_id not in ids(with_region.image_hits)
    )
    used = room.controller.act(
        with_region, {"op": "use", "report": added.record.report_id, "number": 0}
    )
    assert ids(used.prediction.hits)[-1] == added.record.report_id
    assert all(check.verdict is Verdict.SUPPORTED for check in used.check.sentences[-1:])
    evidence = json.loads(export(room, used, "json"))["evidence"]
    assert added.record.report_id in {hit["report_id"] for hit in evidence}


def test_actions_need_an_image_and_an_unsigned_report(room: Room, drafted: Session) -> None:
    with pytest.raises(ActionError):
        room.controller.set_region(Session(), REGION)
    gone = replace(drafted.images[0], path="/nowhere/image.dcm")  # expired
    with pytest.raises(ActionError, match="no longer on the server"):
        room.controller.set_prior(
            replace(drafted, images=(gone,)), [], text="Effusion.", reader="a"
        )
    signed = room.controller.sign(accept_all(room, drafted), "Roe, Jane")
    with pytest.raises(ActionError, match="addendum"):
        room.controller.set_region(signed, REGION)
    with pytest.raises(ActionError, match="addendum"):
        next(room.controller.draft(signed))
    with pytest.raises(CxrRagError, match="finite"):
        room.controller.set_region(drafted, {"boxes": [["<script>", 1, 1, 1]]})


def test_decisions_during_a_slow_action_are_kept(room: Room, drafted: Session) -> None:
    current, line = CurrentSession(drafted), drafted.report.lines[0].key

    def search(session: Session) -> Session:
        current.apply(lambda now: room.controller.act(now, {"op": "accept", "line": line}))
        current.apply(lambda now: rule_out(room, now, ids(now.evidence)[0]))
        return room.controller.set_region(session, REGION)

    current.apply(search)
    session = current.session
    assert session.region
    assert session.report.line(line).decision == "accepted"
    assert session.ruled_out == {ids(drafted.evidence)[0]}


def test_an_action_for_other_images_or_another_draft_is_superseded(
    room: Room, drafted: Session, image: Path
) -> None:
    current = CurrentSession(drafted)

    def other_image(session: Session) -> Session:
        current.session = room.controller.open_images([image], reader="a")
        return room.controller.set_region(session, REGION)

    with pytest.raises(SupersededError):
        current.apply(other_image)
    assert current.session == Session(images=current.session.images)
    current = CurrentSession(drafted)
    *_, again = room.controller.draft(drafted)

    def late(session: Session) -> Session:
        current.merge(again, before=drafted)
        return room.controller.act(session, {"op": "accept-supported"})

    with pytest.raises(SupersededError):
        current.apply(late)
    assert current.session.report == again.report


def test_an_edited_comparison_still_cites_the_prior() -> None:
    prior = PriorEvidence("FINDINGS: Left pleural effusion.")
    found = Prediction(file="image", status=Status.OK, prior=prior)
    text = "Left pleural effusion is again seen since the prior study."
    assert sessions._supporting_sources(found, text, (PRIOR,)) == (PRIOR,)
    assert sessions._supporting_sources(found, "Left pneumothorax is again seen.", (PRIOR,)) == ()
