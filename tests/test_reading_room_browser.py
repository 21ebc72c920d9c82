"""The page in Chromium with a fake encoder and model: viewer, keys, accessibility, readers."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Dialog, Page, expect
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless
from support.gradio_warnings import GRADIO_WARNINGS
from support.page_driver import (
    chromium,
    draft,
    open_page,
    outside_requests,
    serious_violations,
    upload,
    upload_and_draft,
)
from support.small_room import Room, open_room, show_effusions

from encoders.dicom.write import write_dx
from rag.pipeline import ReportPipeline
from rag.review.audit import AuditLog
from reading_room import controller as controllers
from reading_room import strings

pytestmark = [pytest.mark.slow, *GRADIO_WARNINGS]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(room: Room) -> Iterator[str]:
    with open_room(room, requests_per_minute=100_000) as url:
        yield url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    yield open_page(context.new_page(), url)
    context.close()


@pytest.fixture(scope="module")
def large_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "large.dcm"
    write_dx(
        path,
        np.tile(np.linspace(0, 4095, 1600), (2000, 1)).astype(np.uint16),
        bits=12,
        spacing_mm=0.2,
        patient_name="PHANTOM^LARGE",
        patient_id="PHANTOM-LARGE",
        description="Drawn phantom, no patient",
    )
    image = dcmread(path)
    image.compress(JPEG2000Lossless)
    image.save_as(path)
    return path


def script(page: Page, module: str, body: str) -> Any:
    """Run JavaScript with one of our modules as `m`."""
    return page.evaluate(
        f"async () => {{ const m = await import('/reading-room/{module}.js'); {body} }}"
    )


def test_zoom_keeps_the_point_under_the_cursor(page: Page) -> None:
    worst = script(
        page,
        "viewport",
        """
        const screen = {width: 801, height: 599}, image = {width: 3000, height: 2000};
        let worst = 0;
        for (const turn of [0, 1, 2, 3]) for (const mirror of [false, true])
          for (const factor of [0.5, 1.1, 7]) for (const at of [{x: 0, y: 0}, {x: 700, y: 31}]) {
            const viewport = m.fitViewport(image, screen, {turn, mirror});
            const a = m.toImage(viewport, screen, at);
            const b = m.toImage(m.zoomViewport(viewport, screen, at, factor), screen, at);
            worst = Math.max(worst, Math.abs(a.x - b.x), Math.abs(a.y - b.y));
          }
        return worst;
        """,
    )
    assert worst < 1e-6


def test_screen_and_image_points_convert_back_and_forth_in_every_viewport(page: Page) -> None:
    worst = script(
        page,
        "viewport",
        """
        const screen = {width: 801, height: 599}, image = {width: 3000, height: 2000};
        let worst = 0;
        for (const turn of [0, 1, 2, 3]) for (const mirror of [false, true]) {
          const fitted = m.fitViewport(image, screen, {turn, mirror});
          const viewport = m.zoomViewport(fitted, screen, {x: 9, y: 8}, 3);
          for (const p of [{x: 0, y: 0}, {x: 2999, y: 17}]) {
            const q = m.toImage(viewport, screen, m.toScreen(viewport, screen, p));
            worst = Math.max(worst, Math.abs(p.x - q.x), Math.abs(p.y - q.y));
          }
        }
        return worst;
        """,
    )
    assert worst < 1e-6


def test_the_scale_bar_of_a_rotated_image_uses_the_row_spacing(page: Page) -> None:
    bars = script(
        page,
        "overlay",
        "return [0, 1].map((turn) => m.scaleBar([0.4, 0.2], {scale: 1, turn}, 600));",
    )
    assert bars == [{"length": 100, "pixels": 500}, {"length": 200, "pixels": 500}]


def test_rotating_four_times_and_flipping_twice_restore_the_viewport(page: Page) -> None:
    right_of_middle, same, flipped = script(
        page,
        "viewport",
        """
        const screen = {width: 100, height: 100}, image = {width: 100, height: 100};
        const up = m.fitViewport(image, screen), once = m.rotateViewport(up, 1);
        const p = m.toScreen(once, screen, {x: 50, y: 0});
        const four = m.rotateViewport(m.rotateViewport(m.rotateViewport(once, 1), 1), 1);
        const twice = m.flipViewport(m.flipViewport(m.rotateViewport(up, 3)));
        return [[p.x, p.y], JSON.stringify(four) === JSON.stringify(up),
                JSON.stringify(twice) === JSON.stringify(m.rotateViewport(up, 3))];
        """,
    )
    assert right_of_middle == [100, 50]  # the top of the image is now at the right
    assert same
    assert flipped


@pytest.mark.parametrize(
    ("shape", "value", "expected"),
    [
        # PS3.3 C.11.2.1.2: centre 2048, width 4096 covers 0..4095 exactly
        ("LINEAR", 0, 0.0),
        ("LINEAR", 4095, 1.0),
        ("LINEAR", 2047.5, 0.5),
        ("LINEAR_EXACT", 0, 0.0),
        ("LINEAR_EXACT", 4096, 1.0),
        ("LINEAR_EXACT", 2048, 0.5),
        ("SIGMOID", 2048, 0.5),
        ("SIGMOID", 4096, 0.8808),
    ],
)
def test_windows_follow_the_dicom_standard(
    page: Page, shape: str, value: float, expected: float
) -> None:
    window = f"{{centre: 2048, width: 4096, shape: '{shape}'}}"
    assert script(page, "voi_lut", f"return m.brightness({value}, {window});") == pytest.approx(
        expected, abs=1e-4
    )


def test_dragging_sets_the_window_without_a_request(page: Page, image: Path) -> None:
    upload(page, image)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    pane = page.locator(".pane")
    before = {name: pane.get_attribute(f"data-{name}") for name in ("width", "centre", "scale")}
    box = pane.bounding_box()
    assert box
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 100, steps=5)
    page.mouse.up()
    page.mouse.wheel(0, -300)
    expect(pane).not_to_have_attribute("data-scale", str(before["scale"]))
    assert float(pane.get_attribute("data-width") or 0) > float(before["width"] or 0)
    assert pane.get_attribute("data-centre") != before["centre"]
    assert requests == []
    page.keyboard.press("r")
    for name, value in before.items():
        expect(pane).to_have_attribute(f"data-{name}", str(value))


def test_the_canvas_shows_the_pixels_of_read_image(page: Page, image: Path) -> None:
    from encoders.image_io import read_image  # noqa: PLC0415 - pydicom

    pixels = read_image(image).pixels
    upload(page, image)
    page.locator(".pane").focus()
    page.keyboard.press("o")
    page.wait_for_function("document.querySelector('.pane').dataset.scale === '1'")
    page.wait_for_timeout(200)
    height, width = pixels.shape
    shown = page.evaluate(
        """() => { const c = document.querySelector('.pane canvas');
        const d = c.getContext('2d').getImageData(c.width >> 1, c.height >> 1, 1, 1).data;
        return [d[0], d[1], d[2], c.width, c.height]; }"""
    )
    assert shown[0] == shown[1] == shown[2]
    around_centre = pixels[height // 2 - 2 : height // 2 + 3, width // 2 - 2 : width // 2 + 3] * 255
    assert around_centre.min() - 1 <= shown[0] <= around_centre.max() + 1


def test_a_large_image_is_previewed_and_keeps_its_viewport(page: Page, large_image: Path) -> None:
    sizes: list[int] = []
    page.on(
        "response",
        lambda answer: sizes.append(len(answer.body())) if "/image/" in answer.url else None,
    )
    upload(page, large_image)
    pane = page.locator(".pane")
    pane.focus()
    fitted = pane.get_attribute("data-scale")
    page.keyboard.press("i")
    page.keyboard.press("+")
    expect(pane).not_to_have_attribute("data-scale", str(fitted))  # rendered a frame later
    scale = pane.get_attribute("data-scale")
    expect(pane).to_have_attribute("data-full-resolution", "true")
    expect(pane).to_have_attribute("data-scale", str(scale))
    expect(pane.locator(".corner-turned")).to_contain_text("INVERTED")
    expect(pane.locator(".corner-zoom")).not_to_contain_text("preview")
    assert len(sizes) == 2
    assert sizes[0] * 8 < sizes[1]


def test_draft_decide_and_sign_with_the_keyboard_alone(page: Page, room: Room, image: Path) -> None:
    upload_and_draft(page, image)
    page.keyboard.press("Alt+2")
    first = page.locator(".draft .line").first
    expect(first).to_be_focused()
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("My own words.")
    page.keyboard.press("Enter")
    expect(first.locator(".text")).to_have_text("My own words.")
    for line in range(page.locator(".draft .line").count()):
        open_line = page.locator(".draft .line.open").first
        if not open_line.count():
            break
        open_line.focus()
        page.keyboard.press("a")
        expect(page.locator(".draft .line.open")).to_have_count(
            max(page.locator(".draft .line").count() - line - 2, 0)
        )
    expect(page.locator(".draft .line.open")).to_have_count(0)
    page.evaluate(  # Alt+4 on a Mac
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '¢', code: 'Digit4', "
        "altKey: true, bubbles: true}))"
    )
    page.keyboard.type("Roe, Jane")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_contain_text("Signed")
    expect(page.locator(".draft [data-op]")).to_have_count(0)
    expect(page.locator(".draft.locked")).to_have_count(1)
    last = list(AuditLog(room.audit.path).entries())[-1]
    assert last.event == "sign"
    assert last.data["sentences"][0] == "My own words."


@pytest.mark.parametrize("state", ["empty", "drafted"])
def test_axe_reports_no_serious_violation(page: Page, image: Path, state: str) -> None:
    if state == "drafted":
        upload_and_draft(page, image)
    assert serious_violations(page) == []


@pytest.mark.parametrize("readers", [2, 8])
def test_parallel_readers_see_only_their_own_study(
    browser: Browser, url: str, image: Path, tmp_path: Path, readers: int
) -> None:
    contexts = [browser.new_context() for _ in range(readers)]
    pages = [open_page(context.new_page(), url) for context in contexts]
    content = image.read_bytes()
    for number, page in enumerate(pages):
        own = tmp_path / f"image{number}.dcm"
        own.write_bytes(bytes([number]) + content[1:])
        page.set_input_files("#upload input[type=file]", own)
    for number, page in enumerate(pages):
        page.wait_for_selector('.viewer[data-state="shown"] canvas')
        page.fill("#indication textarea, #indication input", f"Reader {number} asks.")
    for page in pages:
        page.click("#draft-it")
    for number, page in enumerate(pages):
        page.wait_for_selector(".draft .line[tabindex], .no-draft", timeout=60_000)
        page.click("#provenance button")
        expect(page.locator("#provenance .provenance")).to_be_visible()
        others = set(re.findall(r"Reader (\d) asks", page.content())) - {str(number)}
        assert others == set()
        assert f"image{number}.dcm" in page.content()
        assert len(re.findall(r"image\d\.dcm", page.content())) >= 1
        assert set(re.findall(r"image(\d)\.dcm", page.content())) == {str(number)}
    for context in contexts:
        context.close()


def test_the_page_works_offline_and_contacts_no_other_host(
    browser: Browser, url: str, image: Path
) -> None:
    context = browser.new_context()
    context.route(lambda address: not address.startswith(url), lambda route: route.abort())
    page = context.new_page()
    outside = outside_requests(page, url)
    open_page(page, url)
    upload_and_draft(page, image)
    context.close()
    assert outside == []


@contextmanager
def blocked(patch: pytest.MonkeyPatch, owner: object, name: str) -> Iterator[threading.Event]:
    """Block calls of a method until the block ends; yields an event set by the first call."""
    method, called, released = getattr(owner, name), threading.Event(), threading.Event()

    def wait_and_call(*args: Any) -> Any:
        called.set()
        released.wait(60)
        return method(*args)

    patch.setattr(owner, name, wait_and_call)
    try:
        yield called
    finally:
        released.set()
        patch.undo()


def test_actions_during_a_slow_request_are_kept(
    page: Page, room: Room, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(page, image)
    with blocked(monkeypatch, room.llm, "status") as asked:
        page.click("#draft-it")
        assert asked.wait(60)
        page.keyboard.press("Alt+1")
        page.keyboard.press("b")
        page.keyboard.press("Enter")
        page.wait_for_selector("#evidence .region-evidence")
    page.wait_for_selector(".draft .line[tabindex]")
    expect(page.locator("#evidence .region-evidence")).to_have_count(1)
    with blocked(monkeypatch, ReportPipeline, "search_regions") as searching:
        page.keyboard.press("Alt+1")
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(500)  # longer than the pause before the request
        assert searching.wait(60)
        page.keyboard.press("Alt+2")
        page.keyboard.press("a")
        expect(page.locator(".draft .line.accepted")).to_have_count(1)
    expect(page.locator("#waiting .progress, #waiting .generating")).to_have_count(0)
    page.wait_for_timeout(1000)
    expect(page.locator(".draft .line.accepted")).to_have_count(1)


def test_an_editor_stays_open_when_an_earlier_decision_is_answered(
    page: Page, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_and_draft(page, image)
    page.keyboard.press("Alt+2")
    with blocked(monkeypatch, controllers, "act") as accepting:
        page.keyboard.press("a")
        assert accepting.wait(60)
        page.keyboard.press("e")
        page.keyboard.press("Control+a")
        page.keyboard.type("My own wor")
    expect(page.locator(".draft .line.accepted")).to_have_count(1)
    page.keyboard.type("ds.")
    page.keyboard.press("Enter")
    expect(page.locator(".draft .line.edited .text")).to_have_text("My own words.")
    expect(page.locator(".editor")).to_have_count(0)


def test_a_draft_is_dropped_if_another_image_was_opened_meanwhile(
    page: Page, room: Room, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.dcm"
    other.write_bytes(b"other" + image.read_bytes()[5:])
    upload(page, image)
    with blocked(monkeypatch, room.llm, "status") as asked:
        page.click("#draft-it")
        assert asked.wait(60)
        page.click('#upload [aria-label*="lear"], #upload [aria-label*="emove"]')
        page.wait_for_selector('.viewer[data-state="empty"]')
        upload(page, other)
    page.wait_for_timeout(1000)
    expect(page.locator(".draft .line")).to_have_count(0)
    draft(page)
    assert page.locator(".draft .line").count() > 0


def test_a_new_draft_asks_before_it_discards_decisions(page: Page, image: Path) -> None:
    upload_and_draft(page, image)
    page.keyboard.press("Alt+2")
    page.keyboard.press("a")
    expect(page.locator(".draft .line.accepted")).to_have_count(1)
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if len(asked) > 1 else dialog.dismiss()

    page.on("dialog", answer)
    page.click("#draft-it")
    expect(page.locator(".draft .line.accepted")).to_have_count(1)
    page.click("#draft-it")
    expect(page.locator(".draft .line.accepted")).to_have_count(0)
    expect(page.locator(".draft .line.open").first).to_be_visible()
    assert asked == [strings.DRAFT_WORDS["redraft"].format(1)] * 2


def test_text_typed_by_a_reader_is_escaped(page: Page, image: Path) -> None:
    upload_and_draft(page, image)
    page.fill("[data-add=findings]", "<img src=x onerror=window.hit=1>")
    page.press("[data-add=findings]", "Enter")
    expect(page.locator(".draft .line.added .text")).to_have_text(
        "<img src=x onerror=window.hit=1>"
    )
    assert page.evaluate("window.hit") is None


def test_without_a_language_model_the_evidence_is_usable(
    page: Page, room: Room, image: Path
) -> None:
    upload(page, image)
    room.llm.status = lambda prompt: 500
    try:
        draft(page)
    finally:
        room.llm.status = lambda prompt: 200
    expect(page.locator(".no-draft")).to_contain_text("evidence is still usable")
    assert page.locator(".card").count() > 0
    page.locator(".sentence[data-use]").first.click()
    expect(page.locator(".draft .line.added")).to_have_count(1)


def test_pointing_at_a_sentence_outlines_its_finding(
    page: Page, room: Room, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_effusions(room.pipeline.encoder, monkeypatch)
    upload_and_draft(page, image)
    for text in ("Small right pleural effusion.", "No pleural effusion."):
        page.fill("input[data-add=findings]", text)
        page.press("input[data-add=findings]", "Enter")
        page.wait_for_selector(f".draft .line.added:has-text('{text}')")
    stated, denied = (page.locator(".line.added").nth(number) for number in (0, 1))
    contour = page.locator(".pane svg .finding")
    stated.hover()
    expect(contour).to_have_count(1)
    expect(page.locator(".corner-finding")).to_contain_text("Effusion: experimental")
    expect(page.locator(".corner-finding")).to_have_css("white-space", "pre-line")  # one per line
    pane, box = page.locator(".pane").bounding_box(), contour.bounding_box()
    assert pane
    assert box
    assert pane["x"] < box["x"] + box["width"] / 2 < pane["x"] + pane["width"] / 2  # on the left
    assert box["y"] + box["height"] / 2 > pane["y"] + pane["height"] / 2  # and low
    denied.hover()
    expect(contour).to_have_count(0)
    expect(page.locator(".corner-finding")).to_have_text("")
    stated.hover()
    expect(contour).to_have_count(1)
    page.click("[data-do=findings]")
    expect(page.locator("[data-do=findings]")).to_have_attribute("aria-pressed", "false")
    expect(contour).to_have_count(0)
    page.locator(".pane").focus()
    page.keyboard.press("l")
    expect(contour).to_have_count(1)  # of the sentence pointed at last


def mark_box(page: Page, image: Path) -> None:
    """Open an image and drag a box on it with the region tool."""
    upload(page, image)
    page.locator(".pane").focus()
    page.keyboard.press("b")
    box = page.locator(".pane").bounding_box()
    assert box
    centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(centre[0] - 60, centre[1] - 50)
    page.mouse.down()
    page.mouse.move(centre[0], centre[1] + 30, steps=4)
    page.mouse.up()
    page.wait_for_selector("#evidence .region-evidence")


def retrieved_ids(page: Page) -> list[str | None]:
    """Cards retrieved for the region; the others are cited by a sentence."""
    ranked = page.locator("#evidence .card:is(.new, .same, .up, .down)")
    return [card.get_attribute("id") for card in ranked.all()]


def test_a_box_changes_the_evidence_and_can_be_cleared(page: Page, image: Path) -> None:
    mark_box(page, image)
    expect(page.locator(".pane svg .region")).to_have_count(1)
    expect(page.locator(".pane svg .heat")).to_have_count(1)
    with_region = retrieved_ids(page)
    assert page.locator(".card.new").count() >= 1
    assert page.locator(".card.dropped").count() >= 1
    page.click("[data-act=redraft]")
    page.wait_for_selector(".draft .line[tabindex], .no-draft")
    assert retrieved_ids(page) == with_region
    page.click("[data-act=clear-regions]")
    expect(page.locator("#evidence .region-evidence")).to_have_count(0)
    expect(page.locator(".pane svg .region")).to_have_count(0)
    assert not retrieved_ids(page)
    assert page.locator("#evidence .card.dropped").count() >= 1


def test_a_box_stays_when_a_prior_is_opened(page: Page, image: Path, tmp_path: Path) -> None:
    mark_box(page, image)
    earlier = dcmread(image)
    earlier.SOPInstanceUID = earlier.file_meta.MediaStorageSOPInstanceUID = "1.2.9.61.1"
    earlier.StudyInstanceUID, earlier.StudyDate = "1.2.9.61", "20010301"
    earlier.AcquisitionDate = "20010301"
    earlier.save_as(tmp_path / "then.dcm")
    page.click("#add-prior button")
    page.set_input_files("#prior-files input[type=file]", tmp_path / "then.dcm")
    expect(page.locator("#prior-files")).to_contain_text("then")
    page.click("#compare")
    expect(page.locator(".pane")).to_have_count(2)
    expect(page.locator(".pane svg .region")).to_have_count(1)
    page.click("[data-act=clear-regions]")
    expect(page.locator("#evidence .region-evidence")).to_have_count(0)


def test_a_finished_drag_does_not_end_twice(page: Page, image: Path) -> None:
    mark_box(page, image)
    page.locator(".pane").first.dispatch_event("pointercancel")
    page.wait_for_timeout(300)
    expect(page.locator(".pane svg .region")).to_have_count(1)


def test_a_region_can_be_marked_with_the_keyboard_alone(page: Page, image: Path) -> None:
    upload(page, image)
    page.keyboard.press("Alt+1")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    region = page.locator(".pane svg .region")
    expect(region).to_have_count(1)
    page.wait_for_selector("#evidence .region-evidence")
    x, width = (float(region.get_attribute(name) or 0) for name in ("x", "width"))
    page.keyboard.press("h")  # flipped: an arrow still moves the box where it points
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(100)
    flipped = float(region.get_attribute("x") or 0)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    page.wait_for_timeout(100)
    assert float(region.get_attribute("x") or 0) < flipped
    assert float(region.get_attribute("width") or 0) == pytest.approx(width, abs=1)
    page.keyboard.press("Backspace")
    expect(region).to_have_count(0)
    expect(page.locator("#evidence .region-evidence")).to_have_count(0)
    assert x > 0


def test_a_gaze_file_marks_a_region_and_other_tables_are_refused(
    page: Page, image: Path, tmp_path: Path
) -> None:
    upload(page, image)
    table = tmp_path / "gaze.csv"
    table.write_text("no,such,columns\n1,2,3\n")
    page.set_input_files("#viewer input[type=file]", table)
    expect(page.locator(".corner-region")).to_contain_text("Not a table of fixations")
    table.write_text("x,y,duration\n0.4,0.5,0.3\n0.42,0.52,0.9\n")
    page.set_input_files("#viewer input[type=file]", table)
    page.wait_for_selector("#evidence .region-evidence")
    expect(page.locator(".pane svg .heat")).to_have_count(2)
    expect(page.locator(".corner-region")).to_have_text("")


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("x,y,duration\n0.5,0.25,0.4", [[0.5, 0.25, 0.4]]),
        (
            "X_ORIGINAL,Y_ORIGINAL,FPOGD\n1000,500,0.4\n10,10,0.2",
            [[0.5, 0.5, 0.4], [0.005, 0.01, 0.2]],
        ),
        ("x;y;duration\n100;100;400", [[0.05, 0.1, 0.4]]),
        (
            "x_position,y_position,timestamp_start_fixation,timestamp_end_fixation\n200,100,1.5,2",
            [[0.1, 0.1, 0.5]],
        ),
        ("dicom_id,x,y,duration\na,0.1,0.1,1\nb,0.1,0.1,1", None),
        ("x,y,duration\n,,\nnope,0,1", None),
        ("", None),
    ],
)
def test_fixation_tables_are_parsed(
    page: Page, table: str, expected: list[list[float]] | None
) -> None:
    found = script(page, "gaze", f"return m.parseGaze({table!r}, {{width: 2000, height: 1000}});")
    assert found == (None if expected is None else [pytest.approx(row) for row in expected])
