"""The page behind nginx, under a path, with the configuration of docs/operations.md."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.gradio_warnings import GRADIO_WARNINGS
from support.orthanc import free_port
from support.page_driver import chromium, open_page, upload_and_draft
from support.small_room import Room, open_room

DOCS = Path(__file__).parent.parent / "docs" / "operations.md"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")

pytestmark = [pytest.mark.slow, *GRADIO_WARNINGS]


@pytest.fixture(scope="module")
def proxied_url(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page under /cxr/ of a local nginx."""
    assert NGINX, "nginx is not installed; `make test` installs or names it"
    folder = tmp_path_factory.mktemp("nginx")
    (block,) = re.findall(r"```nginx\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    port = free_port()
    settings = {"requests_per_minute": 100_000, "root_path": "/cxr", "hosts": ("localhost",)}
    with open_room(room, **settings) as url:
        block = block.replace("http://127.0.0.1:7860/", url)
        config = folder / "nginx.conf"
        temp = "".join(
            f"{kind}_temp_path {folder}/{kind}; "
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"user root; daemon off; pid {folder}/pid;\n"
            f"error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log off; {temp}\n"
            f"server {{ listen 127.0.0.1:{port}; {block} }} }}\n"
        )
        process = subprocess.Popen([NGINX, "-e", f"{folder}/error.log", "-c", str(config)])
        try:
            address = f"http://127.0.0.1:{port}/cxr/"
            _wait_for(address)
            yield address
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(address: str) -> None:
    for _ in range(100):
        try:
            httpx.get(address, timeout=30)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"nothing answers at {address}")


def test_upload_draft_and_export_work_under_a_path(
    proxied_url: str, room: Room, image: Path, tmp_path: Path
) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        open_page(page, proxied_url)
        upload_and_draft(page, image)
        assert page.locator(".draft .line[tabindex]").count() > 0
        with page.expect_download() as download:
            page.click("button[data-form] >> nth=0")
        download.value.save_as(tmp_path / "report")
        assert "not for clinical use" in (tmp_path / "report").read_text(encoding="utf-8")
        own = (proxied_url, "data:", "blob:")
        assert [url for url in requested if not url.startswith(own)] == []


def test_the_api_works_under_a_path(proxied_url: str, image: Path) -> None:
    answer = httpx.post(f"{proxied_url}api/draft", files={"image": image.read_bytes()}, timeout=120)
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    assert httpx.get(proxied_url.rstrip("/")).headers["location"].endswith("/cxr/")
