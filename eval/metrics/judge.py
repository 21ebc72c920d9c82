"""Statements judged by a language model at any OpenAI-compatible URL, after RadFact.

The judge is asked which sentences of the draft follow from the reference (precision) and which of
the reference follow from the draft (recall), in one request each; the prompt is in judge.toml. A
study without an answer is counted, left out, and asked again by the next run.
"""

import hashlib
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.resources import files
from typing import Any

import httpx
from pydantic import StrictBool, TypeAdapter, ValidationError

from eval.errors import NotAvailableError
from eval.metrics.base import Direction, MeanMetric, Setup, SufficientStats, mean_measure, mean_rows
from eval.studies import Pair
from rag.report_nlp.sentences import sentence_spans, strip_list_number

_MAX_CONCURRENCY = 8
_MAX_ATTEMPTS = 3
_TIMEOUT_S = 300.0
_FATAL_STATUS = (401, 403, 404)
"""HTTP errors that every study would get."""


class _NoAnswerError(Exception):
    """A request without a usable answer; the message is a reason that can be counted."""


class Judge(MeanMetric):
    """Precision, recall and F1 of statements, mean over studies."""

    key = "judge"
    measures = (
        mean_measure("judged precision", Direction.HIGHER, column=0),
        mean_measure("judged recall", Direction.HIGHER, column=2),
        mean_measure("judged F1", Direction.HIGHER, column=4),
    )
    width = 6
    batch_size = 2 * _MAX_CONCURRENCY

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        judge = setup.judge
        if judge is None or not judge.model:
            raise NotAvailableError("needs a judge: --judge URL --judge-model NAME")
        self._judge = judge
        self._prompt = _load_prompt()
        server = hashlib.sha256(judge.url.encode()).hexdigest()[:8]
        self.made_by = {
            "judge": [judge.model],
            "judge_server": [server],
            "judge_prompt": [self._prompt["version"]],
        }
        self.version = "-".join(["1", self._prompt["version"], judge.model, server])
        self._unanswered: list[str] = []

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 6]; zeros without an answer.

        Raises:
            NotAvailableError: the server cannot be reached, or refuses every request.
        """
        with ThreadPoolExecutor(_MAX_CONCURRENCY) as pool:
            rows = mean_rows(list(pool.map(self.score_pair, pairs)))
        reasons = Counter(self._unanswered).items()
        self.notes = [f"judge: no score for {n} pairs of texts: {reason}" for reason, n in reasons]
        return rows

    def score_pair(self, pair: Pair) -> tuple[float, float, float]:
        """Precision, recall and F1 of a study."""
        if not pair.draft.strip():
            return 0.0, 0.0, 0.0
        try:
            precision = self._entailed_share(_split_statements(pair.draft), pair.reference)
            recall = self._entailed_share(_split_statements(pair.reference), pair.draft)
        except _NoAnswerError as error:
            self._unanswered.append(str(error))
            return (float("nan"),) * 3
        total = precision + recall
        return precision, recall, 2 * precision * recall / total if total else 0.0

    def _entailed_share(self, statements: Sequence[str], report: str) -> float:
        """Share of the statements that follow from a report."""
        names = [str(number) for number in range(1, len(statements) + 1)]
        numbered = "\n".join(f"{n}. {s}" for n, s in zip(names, statements, strict=True))
        schema = {
            "type": "object",
            "properties": {name: {"type": "boolean"} for name in names},
            "required": names,
            "additionalProperties": False,
        }
        question = self._prompt["user"].format(report=report, statements=numbered)
        answer = self._ask(question, schema)
        try:
            verdicts = TypeAdapter(dict[str, StrictBool]).validate_json(answer)
            return sum(verdicts[name] for name in names) / len(names)
        except (ValidationError, KeyError) as error:
            raise _NoAnswerError("the answer is not the requested JSON") from error

    def _ask(self, question: str, schema: dict[str, Any]) -> str:
        body = {
            "model": self._judge.model,
            "messages": [
                {"role": "system", "content": self._prompt["system"]},
                {"role": "user", "content": question},
            ],
            "temperature": 0,
            "seed": 0,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "judgement", "strict": True, "schema": schema},
            },
        }
        for attempt in range(1, _MAX_ATTEMPTS):
            try:
                return self._post(body)
            except _NoAnswerError:
                time.sleep(attempt)
        return self._post(body)

    def _post(self, body: dict[str, Any]) -> str:
        url, key = self._judge.url.rstrip("/"), self._judge.api_key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            response = httpx.post(
                f"{url}/chat/completions", json=body, headers=headers, timeout=_TIMEOUT_S
            )
        except httpx.ConnectError as error:
            raise NotAvailableError(f"no judge answers at {url} ({error})") from error
        except httpx.HTTPError as error:
            raise _NoAnswerError(type(error).__name__) from error
        if response.status_code in _FATAL_STATUS:
            raise NotAvailableError(
                f"{url} answered {response.status_code} for {self._judge.model!r}: check "
                "--judge-model and the key in CXR_RAG_JUDGE_KEY"
            )
        if response.is_error:
            raise _NoAnswerError(f"HTTP {response.status_code}")
        try:
            return str(response.json()["choices"][0]["message"]["content"])
        except (ValueError, TypeError, LookupError) as error:
            raise _NoAnswerError("the response is not a chat completion") from error


def _split_statements(text: str) -> list[str]:
    return [strip_list_number(text[start:end]) for start, end in sentence_spans(text)]


@lru_cache(maxsize=1)
def _load_prompt() -> dict[str, str]:
    return tomllib.loads(files("eval").joinpath("judge.toml").read_text(encoding="utf-8"))
