"""The page in Chromium against the running demo, with nothing faked."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Demo
from playwright.sync_api import Browser, Page, expect
from support.page_driver import (
    MINUTE,
    chromium,
    draft,
    open_page,
    outside_requests,
    upload,
    upload_and_draft,
    wait_for_image,
)

from rag.schema import NOTICE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    yield open_page(context.new_page(), demo.url)
    context.close()


def test_a_dicom_image_is_drafted_and_a_citation_links_to_its_report(
    page: Page, image: Path
) -> None:
    upload_and_draft(page, image)
    assert page.locator(".draft .line").count() >= 1
    citation = page.locator(".draft .cite").first
    target = citation.get_attribute("href")
    assert target
    citation.click()
    card = page.locator(f'[id="{target[1:]}"]')
    expect(card).to_be_in_viewport()
    assert card.locator("mark").count() >= 1
    drafted = page.locator(".draft .line .text").first.inner_text()
    assert drafted in [mark.inner_text() for mark in card.locator("mark").all()]


def test_the_page_shows_the_ai_draft_notice(page: Page) -> None:
    expect(page.locator(".banner")).to_contain_text(NOTICE)


def test_exports_contain_the_draft_and_the_notice(page: Page, image: Path) -> None:
    upload_and_draft(page, image)
    with page.expect_download() as text:
        page.click("button[data-form=text]")
    assert NOTICE in Path(text.value.path()).read_text()
    with page.expect_download() as as_json:
        page.click("button[data-form=json]")
    prediction = json.loads(Path(as_json.value.path()).read_text())
    assert prediction["status"] == "ok"
    assert prediction["report"]["state"] == "draft"
    known = {evidence["report_id"] for evidence in prediction["evidence"]}
    for sentence in prediction["findings"] + prediction["impression"]:
        assert set(sentence["sources"]) <= known


def test_the_example_image_can_be_drafted(page: Page) -> None:
    page.click("#example")
    wait_for_image(page)
    draft(page)
    assert page.locator(".draft .line").count() >= 1


def test_an_unreadable_file_is_refused_with_a_reason_and_no_traceback(
    page: Page, tmp_path: Path
) -> None:
    path = tmp_path / "letter.pdf"
    path.write_bytes(b"%PDF-1.4 not an image")
    page.set_input_files("#upload input[type=file]", path)
    expect(page.locator(".toast-body").first).to_contain_text("PDF", timeout=MINUTE)
    assert "Traceback" not in page.content()


def test_two_readers_see_nothing_of_each_other(
    page: Page, browser: Browser, demo: Demo, image: Path
) -> None:
    other_context = browser.new_context()
    other = open_page(other_context.new_page(), demo.url)
    upload_and_draft(page, image)
    assert other.locator(".draft .line").count() == 0
    assert other.locator(".viewer canvas").count() == 0
    assert image.name not in other.content()
    other_context.close()


def test_the_page_contacts_no_other_host(browser: Browser, demo: Demo, image: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    outside = outside_requests(page, demo.url)
    open_page(page, demo.url)
    upload_and_draft(page, image)
    context.close()
    assert outside == []


def test_a_box_on_the_image_changes_the_evidence(page: Page, image: Path) -> None:
    upload(page, image)
    page.locator(".pane").focus()
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    expect(page.locator("#evidence .region-evidence .experimental")).to_be_visible(timeout=MINUTE)
    assert page.locator("#evidence .card .move").count() >= 1
    page.click("[data-act=clear-regions]")
    expect(page.locator("#evidence .region-evidence")).to_have_count(0, timeout=MINUTE)
