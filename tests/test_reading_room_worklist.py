"""The worklist: drafting ahead, its order, signatures and priors."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect
from pydicom import dcmread
from support.gradio_warnings import GRADIO_WARNINGS, collect_quietly
from support.page_driver import MINUTE, chromium, serious_violations, wait_for_image
from support.rejections import note
from support.small_room import Room, open_room

from demo.phantom import draw_phantom
from encoders.image_io import read_image_info
from encoders.images.image_info import ImageInfo
from rag.errors import CxrRagError
from rag.review.reviewed_report import State
from rag.schema import NOTICE, PredictedFindings
from rag.settings import PageSettings, Settings
from rag.study import pseudonym
from reading_room import strings
from reading_room import worklist as worklists
from reading_room.events import Events
from reading_room.evidence_panel import prior_html
from reading_room.image_opener import MAX_IMAGES
from reading_room.image_panel import viewer_value
from reading_room.listed_study import ListedStudy, StudyState
from reading_room.session import ActionError, CurrentSession, Session
from reading_room.worklist import Worklist

pytestmark = [pytest.mark.slow, *GRADIO_WARNINGS]


def write_study(
    path: Path, drawn: Path, number: int, *, patient: str = "", date: str = "20261101"
) -> Path:
    """A phantom as a study with its own ids."""
    image = dcmread(drawn)
    image.PatientID = patient or f"PHANTOM-{number}"
    image.StudyInstanceUID = f"1.2.9.{number}"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{number}.1"
    image.StudyDate = image.AcquisitionDate = date
    image.AcquisitionTime = f"{number:06d}"
    image.save_as(path)
    return path


def write_lateral(path: Path, frontal: Path, number: int = 2) -> None:
    """Another view of a study of `write_study`."""
    image = dcmread(frontal)
    uid = f"{image.StudyInstanceUID}.{number}"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid
    image.ViewPosition = "LL"
    image.save_as(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    return inbox


class FakeFindingHead:
    """Returns the given probabilities, one study after the other."""

    def __init__(self, *probabilities: dict[str, float]) -> None:
        self._probabilities = list(probabilities)

    def predict(self, vector: NDArray[np.float32]) -> PredictedFindings:
        return PredictedFindings(self._probabilities.pop(0), not_assessable=frozenset({"Fracture"}))


def draft_all(worklist: Worklist) -> list[ListedStudy]:
    worklist.scan()
    while worklist.draft_next():
        pass
    return worklist.studies()


def test_studies_are_drafted_ahead_and_listed_urgent_first(
    room: Room, folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_study(folder / f"{number}.dcm", image, number)
    (folder / "rubbish.dcm").write_bytes(b"rubbish")
    worklist = Worklist(folder, room.pipeline)
    worklist.scan()
    assert {study.state for study in worklist.studies()} == {StudyState.WAITING}
    head = FakeFindingHead(
        {"Pneumothorax": 0.1, "Fracture": 0.99}, {"Pneumothorax": 0.7}, {"Cardiomegaly": 0.9}
    )
    monkeypatch.setattr(room.pipeline.analyzer, "findings", head)
    studies = draft_all(worklist)
    assert [study.urgency for study in studies] == [
        (0.7, "Pneumothorax"),
        (0.1, "Pneumothorax"),  # a finding that is not assessable does not count
        (0.0, ""),  # an enlarged heart can wait
        (0.0, ""),
    ]
    assert [study.state for study in studies] == [StudyState.DRAFTED] * 3 + [StudyState.REFUSED]
    html = worklist.html()
    assert strings.BY_URGENCY in html
    assert "0.70" in html
    assert "PHANTOM" not in html


def test_a_study_with_a_new_image_is_drafted_again(room: Room, folder: Path, image: Path) -> None:
    write_study(folder / "a.dcm", image, 1)
    worklist = Worklist(folder, room.pipeline)
    (before,) = draft_all(worklist)
    worklist.scan()
    assert worklist.studies() == [before]  # nothing has changed
    write_lateral(folder / "b.dcm", folder / "a.dcm")
    worklist.scan()
    (now,) = worklist.studies()
    assert now.state is StudyState.WAITING
    assert [path.name for path in now.images] == ["a.dcm", "b.dcm"]
    shutil.rmtree(folder)
    folder.mkdir()
    worklist.scan()
    assert worklist.studies() == []


def test_a_study_whose_images_were_all_rejected_is_named(
    room: Room, folder: Path, image: Path
) -> None:
    for number in range(2):
        write_study(folder / f"{number}.dcm", image, number)
    rejection = note(folder / "kos.dcm", "1.2.9.1.1", study="1.2.9.1")
    worklist = Worklist(folder, room.pipeline)
    worklist.scan()
    assert [study.key for study in worklist.studies()] == [pseudonym("1.2.9.0")]
    worklist.scan()
    assert f"every image of the study {pseudonym('1.2.9.1')} was rejected" in worklist.html()
    rejection.unlink()
    worklist.scan()
    assert len(worklist.studies()) == 2
    assert "rejected" not in worklist.html()


def test_each_header_is_read_once(
    room: Room, folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(path: Path) -> ImageInfo:
        read.append(path.name)
        return read_image_info(path)

    monkeypatch.setattr("reading_room.worklist.read_image_info", counting)
    worklist = Worklist(folder, room.pipeline)
    for number in range(3):
        write_study(folder / f"{number}.dcm", image, number)
        worklist.scan()
    assert read == ["0.dcm", "1.dcm", "2.dcm"]
    write_study(folder / "1.dcm", image, 7)  # another study under the same name
    worklist.scan()
    assert read[3:] == ["1.dcm"]
    assert len(worklist.studies()) == 3
    (folder / "2.dcm").rename(folder.parent / "2.dcm")
    worklist.scan()
    (folder.parent / "2.dcm").rename(folder / "2.dcm")
    worklist.scan()
    assert read[4:] == ["2.dcm"]  # a header is forgotten with its file


def sign(room: Room, session: Session) -> Session:
    for line in session.report.lines:
        session = room.controller.act(session, {"op": "accept", "line": line.key})
    return room.controller.sign(session, "Roe, Jane")


def test_a_signed_study_is_listed_as_signed_also_after_a_restart(
    room: Room, folder: Path, image: Path
) -> None:
    write_study(folder / "a.dcm", image, 7)
    write_study(folder / "b.dcm", image, 8)
    worklist = Worklist(folder, room.pipeline, audit=room.audit)
    first, _ = draft_all(worklist)
    session = room.controller.open_study(first, reader="a")
    assert session.prediction is first.prediction  # nothing is drafted a second time
    assert session.report.state is State.DRAFT
    edited = room.controller.act(session, {"op": "accept-supported"})
    worklist.save_session(edited, reader="a")
    assert worklist.saved_session(first.key, reader="a") == edited
    assert worklist.saved_session(first.key, reader="b") is None
    done = sign(room, edited)
    worklist.save_session(done, reader="a")
    assert worklist.saved_session(first.key, reader="b") == done
    assert [study.state for study in worklist.studies()] == [StudyState.DRAFTED, StudyState.SIGNED]
    assert "signed by Roe, Jane" in worklist.html()
    again = draft_all(Worklist(folder, room.pipeline, audit=room.audit))
    assert [study.state for study in again] == [StudyState.DRAFTED, StudyState.SIGNED]
    opened = room.controller.open_study(again[1], reader="a")
    assert opened.prediction is None
    assert any("signed by Roe, Jane" in note for note in opened.images[0].warnings)


def test_a_study_is_signed_once_and_keeps_every_addendum(
    room: Room, folder: Path, image: Path
) -> None:
    write_study(folder / "a.dcm", image, 31)
    worklist = Worklist(folder, room.pipeline, audit=room.audit)
    (study,) = draft_all(worklist)
    with gr.Blocks():
        events = Events(room.controller, PageSettings(), worklist)
    roe, poe = gr.Request(username="roe"), gr.Request(username="poe")

    def opened(reader: str) -> CurrentSession:
        saved = worklist.saved_session(study.key, reader=reader)
        session = room.controller.open_study(study, saved=saved, reader=reader)
        if saved is None:
            for line in session.report.lines:
                session = room.controller.act(session, {"op": "accept", "line": line.key})
        return CurrentSession(session)

    mine, other = opened("roe"), opened("poe")
    events.sign(mine, "Roe", roe)
    with pytest.raises(gr.Error, match="signed by Roe"):
        events.sign(other, "Poe", poe)
    assert other.session.report.signature is None
    worklist.save_session(other.session, reader="")  # closed unsigned, on a page without logins
    assert worklist.signed_report(study.key).signature.name == "Roe"
    again = opened("poe")
    events.add_addendum(mine, "Roe", "First.", roe)
    stale = again.session
    events.add_addendum(again, "Poe", "Second.", poe)
    worklist.save_session(stale, reader="poe")
    assert [addendum.text for addendum in worklist.signed_report(study.key).addenda] == [
        "First.",
        "Second.",
    ]
    collect_quietly()


def test_a_study_signed_during_a_scan_stays_signed(
    room: Room, folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(folder / "a.dcm", image, 71)
    worklist = Worklist(folder, room.pipeline)
    (study,) = draft_all(worklist)
    done = sign(room, room.controller.open_study(study, reader="a"))
    list_study = worklists._list_study

    def list_while_another_is_signed(*study: Any) -> ListedStudy:
        worklist.save_session(done, reader="a")
        return list_study(*study)

    monkeypatch.setattr(worklists, "_list_study", list_while_another_is_signed)
    write_study(folder / "b.dcm", image, 72)
    worklist.scan()
    assert worklist.signed_report(study.key) == done.report
    assert worklist.find(study.key).state is StudyState.SIGNED


def test_a_session_is_not_saved_if_the_study_has_new_images(
    room: Room, folder: Path, image: Path
) -> None:
    write_study(folder / "a.dcm", image, 41)
    worklist = Worklist(folder, room.pipeline)
    (study,) = draft_all(worklist)
    session = room.controller.open_study(study, reader="a")
    write_lateral(folder / "b.dcm", folder / "a.dcm")
    worklist.scan()
    worklist.save_session(session, reader="a")
    assert worklist.saved_session(study.key, reader="a") is None


def test_a_study_of_many_images_is_listed_as_signed_after_a_restart(
    room: Room, folder: Path, image: Path
) -> None:
    write_study(folder / "0.dcm", image, 51)
    for number in range(1, MAX_IMAGES + 1):
        write_lateral(folder / f"{number}.dcm", folder / "0.dcm", number + 1)
    (study,) = draft_all(Worklist(folder, room.pipeline))
    sign(room, room.controller.open_study(study, reader="a"))
    (again,) = draft_all(Worklist(folder, room.pipeline, audit=room.audit))
    assert again.state is StudyState.SIGNED


def test_drafts_made_ahead_contain_no_file_name(room: Room, folder: Path, image: Path) -> None:
    (folder / "Roe_Jane").mkdir()
    shutil.copy(image, folder / "Roe_Jane" / "Roe_Jane.dcm")
    Image.fromarray((draw_phantom(size=256) * 255).astype(np.uint8)).save(
        folder / "Roe_Jane" / "Roe.png"
    )
    for study in draft_all(Worklist(folder, room.pipeline)):
        session = room.controller.open_study(study, reader="a")
        for form in ("text", "json"):
            name = room.controller.export(session, form, reader="a")
            assert "Roe" not in room.file_store.find(name, reader="a").read_text()


def test_a_study_waits_while_the_language_model_is_down(
    room: Room, folder: Path, image: Path
) -> None:
    shutil.copy(image, folder)
    worklist = Worklist(folder, room.pipeline)
    room.llm.status = lambda prompt: 500
    try:
        (failed,) = draft_all(worklist)
    finally:
        room.llm.status = lambda prompt: 200
    assert failed.state is StudyState.WAITING
    assert "failed with 500" in worklist.html()
    assert not worklist.draft_next()  # not before the retry interval
    worklist._replace(failed, replace(failed, drafted_at=0.0))
    assert worklist.draft_next()
    (now,) = worklist.studies()
    assert now.state is StudyState.DRAFTED


def test_a_missing_folder_is_an_error(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import serve  # noqa: PLC0415 - gradio takes seconds

    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # the page sets it
    settings = Settings(home=tmp_path, page=PageSettings(worklist=tmp_path / "nowhere"))
    with pytest.raises(CxrRagError, match="no file or folder"):
        serve(room.pipeline, settings, say=print)
    assert not (tmp_path / "page" / "7860").exists()  # nothing is left behind
    empty = tmp_path / "empty"
    empty.mkdir()
    worklist = Worklist(empty, room.pipeline)
    worklist.scan()
    assert strings.WORKLIST_EMPTY in worklist.html()


def test_reports_of_the_listed_patient_are_excluded(
    room: Room, tmp_path: Path, image: Path
) -> None:
    write_study(tmp_path / "a.dcm", image, 1)
    listed = tmp_path / "list.csv"
    listed.write_text("study_id,image\nS,a.dcm\n")
    (study,) = draft_all(Worklist(listed, room.pipeline))
    nearest = study.prediction.hits[0].record.patient_id
    listed.write_text(f"study_id,image,patient_id\nS,a.dcm,{nearest}\n")
    (study,) = draft_all(Worklist(listed, room.pipeline))
    assert nearest not in {hit.record.patient_id for hit in study.prediction.hits}


def test_the_patients_newest_earlier_study_is_the_prior(
    room: Room, folder: Path, image: Path
) -> None:
    for number, date in enumerate(("20250301", "20260301", "20261101")):
        write_study(folder / f"{number}.dcm", image, number, patient="P", date=date)
    write_study(folder / "other.dcm", image, 9, patient="Q", date="20260901")
    studies = {study.date: study for study in draft_all(Worklist(folder, room.pipeline))}
    now = studies["2026-11-01"]
    assert [Path(str(file)).name for file in now.prior.files] == ["1.dcm"]
    assert now.prior.date == "2026-03-01"
    assert now.prediction.prior.days_before == 245
    assert not studies["2025-03-01"].prior
    assert not studies["2026-09-01"].prior
    session = room.controller.open_study(now, reader="a")
    assert len(session.prior_images) == 1
    assert session.prior_evidence == now.prediction.prior


def test_a_prior_can_be_compared_and_removed(room: Room, image: Path, tmp_path: Path) -> None:
    current = write_study(tmp_path / "now.dcm", image, 2, patient="P")
    earlier = write_study(tmp_path / "then.dcm", image, 1, patient="P", date="20260301")
    session = room.controller.open_images([current], reader="a")
    report = "Small left pleural effusion. <b>No</b> pneumothorax."
    compared = room.controller.set_prior(session, [earlier], text=report, reader="a")
    assert compared.prior_evidence.days_before == 245
    html = prior_html(compared)
    assert "Pleural effusion" in html
    assert "Prior of 2026-03-01" in html
    assert "<b>" not in html
    shown = viewer_value(compared.images, prior=compared.prior_images, prior_date="2026-03-01")
    assert [image["prior"] for image in shown] == [False, True]
    assert shown[1]["name"].startswith("Prior of 2026-03-01")
    *_, with_prior = room.controller.draft(compared)
    assert with_prior.prediction.prior.report
    without = room.controller.set_prior(compared, [], reader="a")
    assert without == session
    assert prior_html(without) == ""


def test_the_reader_sees_why_another_patients_prior_is_refused(
    room: Room, image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    current = write_study(tmp_path / "now.dcm", image, 2, patient="NUMBER-ONE")
    other = write_study(tmp_path / "then.dcm", image, 1, patient="NUMBER-TWO", date="20260301")
    session = room.controller.open_images([current], reader="a")
    with pytest.raises(ActionError, match=r"NUMBER-ONE.*NUMBER-TWO"):
        room.controller.set_prior(session, [other], reader="a")
    assert "NUMBER" not in caplog.text
    assert "NUMBER" not in room.audit.path.read_text()


@pytest.fixture
def page(room: Room, folder: Path) -> Iterator[Page]:
    """The page with a worklist of the folder, drafting in the background."""
    worklist = Worklist(folder, room.pipeline, audit=room.audit)
    with (
        open_room(room, worklist=worklist, requests_per_minute=100_000) as url,
        chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(url)
        page.wait_for_selector(".worklist", timeout=MINUTE)
        worklist.start()
        yield page
        worklist.close()


def pane_values(page: Page, name: str) -> list[float]:
    return [float(pane.get_attribute(f"data-{name}") or 0) for pane in page.locator(".pane").all()]


def test_a_listed_study_with_its_prior_is_read_and_signed(
    page: Page, folder: Path, image: Path
) -> None:
    expect(page.locator(".worklist")).to_contain_text(strings.WORKLIST_EMPTY)
    expect(page.locator(".banner")).to_contain_text(NOTICE)
    expect(page.locator("#room")).to_be_hidden()
    write_study(folder / "then.dcm", image, 21, patient="P", date="20260301")
    write_study(folder / "now.dcm", image, 22, patient="P", date="20261101")
    rows = page.locator("tr[data-state=drafted]")
    expect(rows).to_have_count(2, timeout=2 * MINUTE)  # without reloading the page
    assert serious_violations(page) == []
    row = rows.filter(has_text="prior of 2026-03-01")
    row.locator("button").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".draft .line[tabindex='0']", timeout=MINUTE)
    expect(page.locator(".worklist")).to_be_hidden()
    expect(page.locator(".banner")).to_contain_text(NOTICE)
    expect(page.locator(".pane.prior .corner-name")).to_contain_text("Prior of 2026-03-01")
    expect(page.locator("section.prior")).to_contain_text("245 days earlier")
    wait_for_image(page)
    assert serious_violations(page) == []
    page.locator(".pane").first.focus()
    fitted = pane_values(page, "scale")
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "fitted => [...document.querySelectorAll('.pane')].every(p => p.dataset.scale > fitted)",
        arg=max(fitted),
    )
    assert len(set(pane_values(page, "scale"))) == 1
    assert len(set(pane_values(page, "width"))) == 1
    assert pane_values(page, "width")[0] > 4096
    page.keyboard.press("k")
    page.keyboard.press("+")
    page.wait_for_function(
        "new Set([...document.querySelectorAll('.pane')].map(p => p.dataset.scale)).size === 2"
    )
    page.keyboard.press("c")
    expect(page.locator(".pane.prior")).to_be_hidden()
    page.keyboard.press("Alt+2")
    for left in range(page.locator(".draft .line.open").count(), 0, -1):
        page.locator(".draft .line.open").first.focus()
        page.keyboard.press("a")
        expect(page.locator(".draft .line.open")).to_have_count(left - 1)
    page.keyboard.press("Alt+4")
    page.keyboard.type("Roe, Jane")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_contain_text("Signed")
    page.keyboard.press("Alt+0")
    expect(page.locator("tr[data-state=signed]")).to_contain_text(
        "signed by Roe, Jane",
        timeout=MINUTE,  # the list is renewed every few seconds
    )
    expect(page.locator("#room")).to_be_hidden()
