"""Drives the page in Chromium."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

MINUTE = 60_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    assert program, "Chromium is not installed; `make test` installs or names it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(page: Page, url: str) -> Page:
    page.goto(url)
    page.wait_for_selector("#draft-it")
    page.wait_for_selector('.viewer[data-state="empty"] button[data-do="tool-window"]')
    return page


def upload(page: Page, *images: Path) -> None:
    page.set_input_files("#upload input[type=file]", images)
    wait_for_image(page)


def wait_for_image(page: Page) -> None:
    page.wait_for_selector('.viewer[data-state="shown"] canvas', timeout=MINUTE)


def draft(page: Page) -> None:
    page.click("#draft-it")
    page.wait_for_selector(".draft .line[tabindex], .no-draft", timeout=2 * MINUTE)


def upload_and_draft(page: Page, *images: Path) -> None:
    upload(page, *images)
    draft(page)


def serious_violations(page: Page) -> list[str]:
    """Serious accessibility violations found by axe, each with the elements concerned."""
    return [
        f"{found['id']}: {found['help']}: {[node['html'][:120] for node in found['nodes']][:3]}"
        for found in Axe().run(page).response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


def outside_requests(page: Page, url: str) -> Sequence[str]:
    """A list that grows with every request to another host."""
    outside: list[str] = []
    own = (url, "data:", "blob:")
    page.on(
        "request",
        lambda request: None if request.url.startswith(own) else outside.append(request.url),
    )
    return outside
