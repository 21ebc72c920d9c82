"""Health, readiness, metrics and logs of the page's server."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from pydicom import dcmread
from starlette.testclient import TestClient
from support.gradio_warnings import GRADIO_WARNINGS
from support.small_room import Room, open_room

from demo.phantom import write_phantom_dicom
from rag.cli.main import _JsonFormatter
from rag.settings import LlmSettings
from reading_room.login import hash_password
from reading_room.server import add_monitoring_routes, readiness

pytestmark = [pytest.mark.slow, *GRADIO_WARNINGS]


@pytest.fixture(scope="module")
def url(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    users = tmp_path_factory.mktemp("users") / "users"
    users.write_text(f"roe:{hash_password('secret')}\n")
    with open_room(room, users=users) as url:
        yield url


def scrape(url: str) -> dict[str, float]:
    """Our metrics, as a Prometheus client parses them."""
    answer = httpx.get(f"{url}metrics", auth=("roe", "secret"))
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith("cxr_rag")
    }


def test_metrics_count_drafts_and_failures_and_name_nobody(url: str, tmp_path: Path) -> None:
    write_phantom_dicom(tmp_path / "a.dcm", seed=1, size=256)
    image = dcmread(tmp_path / "a.dcm")
    image.PatientName, image.PatientID = "Quibblewick^Thaddeus", "MRN-998877"
    image.save_as(tmp_path / "a.dcm")
    before = scrape(url)
    for content in ((tmp_path / "a.dcm").read_bytes(), b"\x89PNG\r\n\x1a\n broken"):
        files = {"image": content}
        httpx.post(f"{url}api/draft", files=files, auth=("roe", "secret"), timeout=60)
    after = scrape(url)

    def increase(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert increase("cxr_rag_drafts_total['', 'ok']") == 1
    assert increase("cxr_rag_drafts_total['ImageReadError', 'failed']") == 1
    assert increase("cxr_rag_draft_seconds_count['generate']") == 1
    assert increase("cxr_rag_draft_seconds_sum['total']") > 0
    text = httpx.get(f"{url}metrics", auth=("roe", "secret")).text.lower()
    assert not [word for word in ("quibblewick", "998877", "roe", "a.dcm") if word in text]


def test_only_health_and_readiness_need_no_login(url: str) -> None:
    assert httpx.get(f"{url}healthz").json() == {"status": "ok"}
    assert httpx.get(f"{url}readyz").status_code == 200
    assert httpx.get(f"{url}metrics").status_code == 401
    assert httpx.get(f"{url}healthz/..").status_code == 401


def test_the_page_is_ready_when_index_and_model_answer(room: Room) -> None:
    running = LlmSettings(url=room.llm.url)
    down = LlmSettings(url="http://127.0.0.1:9/v1")
    assert readiness(room.pipeline, running) == {"index": True, "llm": True}
    assert readiness(room.pipeline, down) == {"index": True, "llm": False}
    assert readiness(room.pipeline, LlmSettings(enabled=False, url=down.url))["llm"]
    server, calls = FastAPI(), []
    add_monitoring_routes(server, lambda: calls.append(1) or {"index": True, "llm": False})
    client = TestClient(server)
    responses = [client.get("/readyz") for _ in range(3)]
    assert [answer.status_code for answer in responses] == [503] * 3
    assert responses[0].json() == {"index": True, "llm": False}
    assert len(calls) == 1


def test_a_log_record_is_one_json_line() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter())
    logger = logging.getLogger("cxr-rag test")
    logger.addHandler(handler)
    logger.error("draft %s\nfailed", 7, exc_info=ValueError("odd"))
    logger.removeHandler(handler)
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert (record["level"], record["message"]) == ("ERROR", "draft 7\nfailed")
    assert "ValueError: odd" in record["exception"]
