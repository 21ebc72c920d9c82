"""Health, readiness, metrics and log lines of the page's server."""

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
from reading_room.login import hashed
from reading_room.server import add_monitoring, readiness

pytestmark = [pytest.mark.slow, *GRADIO_WARNINGS]


@pytest.fixture(scope="module")
def url(room: Room, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    users = tmp_path_factory.mktemp("users") / "users"
    users.write_text(f"roe:{hashed('secret')}\n")
    with open_room(room, users=users) as url:
        yield url


def scraped(url: str) -> dict[str, float]:
    """Every sample of ours, as a Prometheus client reads it."""
    answer = httpx.get(f"{url}metrics", auth=("roe", "secret"))
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name.startswith("cxr_rag")
    }


def test_drafts_and_failures_are_counted_and_nobody_is_named(url: str, tmp_path: Path) -> None:
    write_phantom_dicom(tmp_path / "a.dcm", seed=1, size=256)
    image = dcmread(tmp_path / "a.dcm")
    image.PatientName, image.PatientID = "Quibblewick^Thaddeus", "MRN-998877"
    image.save_as(tmp_path / "a.dcm")
    before = scraped(url)
    for content in ((tmp_path / "a.dcm").read_bytes(), b"\x89PNG\r\n\x1a\n broken"):
        files = {"image": content}
        httpx.post(f"{url}api/draft", files=files, auth=("roe", "secret"), timeout=60)
    after = scraped(url)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert more("cxr_rag_drafts_total['', 'ok']") == 1
    assert more("cxr_rag_drafts_total['ImageReadError', 'failed']") == 1
    assert more("cxr_rag_draft_seconds_count['generate']") == 1
    assert more("cxr_rag_draft_seconds_sum['total']") > 0
    text = httpx.get(f"{url}metrics", auth=("roe", "secret")).text.lower()
    assert not [word for word in ("quibblewick", "998877", "roe", "a.dcm") if word in text]


def test_only_the_probes_need_no_login(url: str) -> None:
    assert httpx.get(f"{url}healthz").json() == {"status": "ok"}
    assert httpx.get(f"{url}readyz").status_code == 200
    assert httpx.get(f"{url}metrics").status_code == 401
    assert httpx.get(f"{url}healthz/..").status_code == 401


def test_it_is_ready_when_index_and_model_answer(room: Room) -> None:
    there = LlmSettings(url=room.llm.url)
    away = LlmSettings(url="http://127.0.0.1:9/v1")
    assert readiness(room.pipeline, there) == {"index": True, "llm": True}
    assert readiness(room.pipeline, away) == {"index": True, "llm": False}
    assert readiness(room.pipeline, LlmSettings(enabled=False, url=away.url))["llm"]
    server, asked = FastAPI(), []
    add_monitoring(server, lambda: asked.append(1) or {"index": True, "llm": False})
    client = TestClient(server)
    answers = [client.get("/readyz") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert answers[0].json() == {"index": True, "llm": False}
    assert len(asked) == 1


def test_a_log_line_can_be_one_json_object() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter())
    logger = logging.getLogger("cxr-rag test")
    logger.addHandler(handler)
    logger.error("draft %s\nfailed", 7, exc_info=ValueError("odd"))
    logger.removeHandler(handler)
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert (told["level"], told["message"]) == ("ERROR", "draft 7\nfailed")
    assert "ValueError: odd" in told["exception"]
