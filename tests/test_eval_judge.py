"""Statements judged by a server: requests, answers, and missing answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.fake_chat_server import MODEL, ChatHandler, listening
from support.made_up_studies import drafts, reports, write_jsonl
from typer.testing import CliRunner

from eval.cache import ScoreCache
from eval.cli import app
from eval.errors import NotAvailableError
from eval.metrics import judge as judge_module
from eval.metrics.base import JudgeServer, Setup, SufficientStats
from eval.metrics.judge import Judge
from eval.results import _command
from eval.studies import Pair
from eval.text import COCO_PTB

PAIR = Pair("a", "The heart is enlarged. No effusion.", "The heart is enlarged.")


class JudgeHandler(ChatHandler):
    """A fake judge: a statement follows if the report contains it; it can be told to fail."""

    requests: ClassVar[list[dict[str, Any]]] = []
    status = 200
    answer = ""

    def do_POST(self) -> None:
        body = self.read_body()
        self.requests.append(body)
        if self.status != 200:
            self.refuse(self.status)
            return
        report, _, rest = body["messages"][1]["content"].partition("</report>")
        lines = [line.partition(". ") for line in rest.splitlines() if line[:1].isdigit()]
        verdicts = {number: statement in report for number, _, statement in lines}
        content = self.answer or json.dumps(verdicts)
        self.send(200, {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(JudgeHandler, "requests", [])
    monkeypatch.setattr(judge_module, "_MAX_ATTEMPTS", 1)
    with listening(JudgeHandler) as found:
        yield found


def judge_at(url: str, *, model: str = MODEL, key: str = "") -> Judge:
    return Judge(Setup(COCO_PTB, (), judge=JudgeServer(url, model, key)))


def values(rows: SufficientStats) -> list[float]:
    return [float(measure.combine(rows)) for measure in Judge.measures]


def test_each_direction_is_one_request_with_a_json_schema(url: str) -> None:
    (row,) = judge_at(url).score([PAIR])
    precision, recall, f1 = values(row)
    assert (precision, recall, f1) == (1.0, 0.5, pytest.approx(2 / 3))
    first, second = sorted(JudgeHandler.requests, key=lambda body: len(json.dumps(body)))
    assert first["temperature"] == 0
    schemas = [body["response_format"]["json_schema"]["schema"] for body in (first, second)]
    assert [schema["required"] for schema in schemas] == [["1"], ["1", "2"]]


def test_a_missing_draft_scores_the_worst_without_a_request(url: str) -> None:
    (row,) = judge_at(url).score([Pair("a", PAIR.reference, "")])
    assert values(row) == [0.0, 0.0, 0.0]
    assert JudgeHandler.requests == []


@pytest.mark.parametrize(
    "failure",
    [
        (503, "", "HTTP 503"),
        (200, "certainly!", "not the requested JSON"),
        (200, '{"1": "yes", "2": true}', "not the requested JSON"),
        (200, "{}", "not the requested JSON"),
    ],
)
def test_a_study_without_an_answer_is_counted_skipped_and_retried_later(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: tuple[int, str, str]
) -> None:
    status, answer, why = failure
    monkeypatch.setattr(JudgeHandler, "status", status)
    monkeypatch.setattr(JudgeHandler, "answer", answer)
    judge, cache = judge_at(url), tmp_path / "scores.sqlite"
    with ScoreCache(cache) as scores:
        assert not scores.rows(judge, [PAIR]).any()
    assert why in judge.notes[0]
    assert "for 1 pairs" in judge.notes[0]
    monkeypatch.setattr(JudgeHandler, "status", 200)
    monkeypatch.setattr(JudgeHandler, "answer", "")
    with ScoreCache(cache) as scores:
        again = judge_at(url)
        assert values(scores.rows(again, [PAIR])[0])[0] == 1.0
        assert not again.notes
        before = len(JudgeHandler.requests)
        scores.rows(again, [PAIR])
        assert len(JudgeHandler.requests) == before


def test_a_server_that_refuses_every_request_makes_the_metric_unavailable(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JudgeHandler, "status", 401)
    with pytest.raises(NotAvailableError, match="CXR_RAG_JUDGE_KEY"):
        judge_at(url).score([PAIR])
    with pytest.raises(NotAvailableError, match="answers at"):
        judge_at("http://127.0.0.1:9/v1").score([PAIR])
    with pytest.raises(NotAvailableError, match="--judge URL"):
        Judge(Setup(COCO_PTB, ()))


def test_the_version_names_model_server_and_prompt(url: str) -> None:
    one, other = judge_at(url), judge_at(url, model="another")
    assert one.version != other.version
    assert "127.0.0.1" not in json.dumps([one.version, one.made_by])
    assert "secret" not in repr(JudgeServer(url, MODEL, "secret"))


def test_the_command_scores_and_names_the_judge_but_not_its_host(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = reports(8)
    files = (
        write_jsonl(tmp_path / "p.jsonl", drafts(references)),
        write_jsonl(tmp_path / "r.jsonl", references),
    )
    arguments = ["score", str(files[0]), "--references", str(files[1]), "--measures", "rouge"]
    arguments += ["--judge", url, "--judge-model", MODEL, "--out", str(tmp_path / "out")]
    arguments += ["--cache", str(tmp_path / "c.sqlite"), "--samples", "100"]
    monkeypatch.setattr("sys.argv", ["cxr-rag", "eval", *arguments])
    assert "127.0.0.1" not in _command()
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "judged precision" in done.output
    text = (tmp_path / "out" / "result.json").read_text()
    models = json.loads(text)["models"]
    assert (models["judge"], models["judge_prompt"]) == ([MODEL], ["statements_v1"])
    assert "127.0.0.1" not in text
