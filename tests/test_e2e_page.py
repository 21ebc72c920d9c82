"""The page in Chromium against the running demo: nothing is faked."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Demo
from playwright.sync_api import Browser, Page, expect, sync_playwright

from encoders.phantom import write_phantom_dicom
from rag.schema import NOTICE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MINUTE = 60_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "Chromium is not installed; `make test` installs or names it"
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    yield open_page(context.new_page(), demo)
    context.close()


def open_page(page: Page, demo: Demo) -> Page:
    page.goto(demo.url)
    page.wait_for_selector("#draft-it")
    return page


def upload(page: Page, film: Path) -> None:
    page.set_input_files("#upload input[type=file]", film)
    page.wait_for_selector("#film img", timeout=MINUTE)


def wait_for_draft(page: Page) -> None:
    page.click("#draft-it")
    page.wait_for_selector("#text textarea", timeout=2 * MINUTE)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "phantom.dcm"
    write_phantom_dicom(path, seed=3)
    return path


def test_dicom_in_cited_draft_out_and_a_citation_leads_to_its_report(
    page: Page, film: Path
) -> None:
    upload(page, film)
    wait_for_draft(page)
    assert page.locator(".draft .sentence").count() >= 1
    citation = page.locator(".draft .cite").first
    target = citation.get_attribute("href")
    assert target
    citation.click()
    card = page.locator(f'[id="{target[1:]}"]')
    expect(card).to_be_in_viewport()
    sentence = page.locator(".draft .sentence").first.inner_text().split("\n")[0]
    assert card.locator("mark").count() >= 1
    assert card.locator("mark").first.inner_text() in card.inner_text()
    assert sentence


def test_every_screen_says_what_it_is(page: Page) -> None:
    expect(page.locator(".banner")).to_contain_text(NOTICE)


def test_downloads_hold_the_draft_and_the_notice(page: Page, film: Path) -> None:
    upload(page, film)
    wait_for_draft(page)
    with page.expect_download() as text:
        page.get_by_text("Download text").click()
    assert NOTICE in Path(text.value.path()).read_text()
    with page.expect_download() as as_json:
        page.get_by_text("Download JSON").click()
    prediction = json.loads(Path(as_json.value.path()).read_text())
    assert prediction["status"] == "ok"
    known = {evidence["report_id"] for evidence in prediction["evidence"]}
    for sentence in prediction["findings"] + prediction["impression"]:
        assert set(sentence["sources"]) <= known


def test_the_example_needs_no_film(page: Page) -> None:
    page.click("#example")
    page.wait_for_selector("#film img", timeout=MINUTE)
    wait_for_draft(page)


def test_rubbish_is_refused_with_a_reason_and_no_traceback(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "letter.pdf"
    path.write_bytes(b"%PDF-1.4 not a film")
    page.set_input_files("#upload input[type=file]", path)
    expect(page.locator(".toast-body").first).to_contain_text("PDF", timeout=MINUTE)
    assert "Traceback" not in page.content()


def test_two_readers_see_nothing_of_each_other(
    page: Page, browser: Browser, demo: Demo, film: Path
) -> None:
    other_context = browser.new_context()
    other = open_page(other_context.new_page(), demo)
    upload(page, film)
    wait_for_draft(page)
    assert other.locator(".draft .sentence").count() == 0
    assert other.locator("#film img").count() == 0
    assert film.name not in other.content()
    other_context.close()


def test_the_page_asks_nobody_outside(browser: Browser, demo: Demo, film: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    outside: list[str] = []
    page.on(
        "request",
        lambda request: (
            outside.append(request.url)
            if not request.url.startswith((demo.url, "data:", "blob:"))
            else None
        ),
    )
    open_page(page, demo)
    upload(page, film)
    wait_for_draft(page)
    context.close()
    assert outside == []
