"""Statements that a language model judges, at any OpenAI-compatible URL: after RadFact's idea.

Each sentence of the draft is asked of the reference (precision), each of the reference of the draft
(recall); one request a direction. The words are in judge.toml. What was judged is kept in the score
cache; a study that got no answer is counted, left out, and asked again by the next run.
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

_AT_ONCE = 8  # requests under way
_TRIES = 3
_SECONDS = 300.0  # longest wait for one answer
_FOR_EVERY_STUDY = (401, 403, 404)


class _NoAnswerError(Exception):
    """One request had no usable answer; the message is a kind that can be counted."""


class Judge(MeanMetric):
    """Precision, recall and F1 of statements, mean over studies."""

    key = "judge"
    measures = (
        mean_measure("judged precision", Direction.HIGHER, column=0),
        mean_measure("judged recall", Direction.HIGHER, column=2),
        mean_measure("judged F1", Direction.HIGHER, column=4),
    )
    width = 6
    batch = 2 * _AT_ONCE

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        judge = setup.judge
        if judge is None or not judge.model:
            raise NotAvailableError("a judge: --judge URL --judge-model NAME")
        self._judge = judge
        self._words = _prompt()
        server = hashlib.sha256(judge.url.encode()).hexdigest()[:8]
        self.made_by = {
            "judge": [judge.model],
            "judge_server": [server],
            "judge_prompt": [self._words["version"]],
        }
        self.version = "-".join(["1", self._words["version"], judge.model, server])
        self._unanswered: list[str] = []

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 6]; zeros, which count for nothing, without an answer.

        Raises:
            NotAvailableError: nobody answers at the URL, or it refuses everything.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            rows = mean_rows(list(pool.map(self.one, pairs)))
        counted = Counter(self._unanswered).items()
        self.notes = [f"judge: no score for {n} pairs of texts: {why}" for why, n in counted]
        return rows

    def one(self, pair: Pair) -> tuple[float, float, float]:
        """Precision, recall and F1 of a study."""
        if not pair.draft.strip():
            return 0.0, 0.0, 0.0
        try:
            precision = self._share(_statements(pair.draft), of=pair.reference)
            recall = self._share(_statements(pair.reference), of=pair.draft)
        except _NoAnswerError as error:
            self._unanswered.append(str(error))
            return (float("nan"),) * 3
        total = precision + recall
        return precision, recall, 2 * precision * recall / total if total else 0.0

    def _share(self, statements: Sequence[str], *, of: str) -> float:
        """How many of the statements follow from a report."""
        names = [str(number) for number in range(1, len(statements) + 1)]
        numbered = "\n".join(f"{n}. {s}" for n, s in zip(names, statements, strict=True))
        schema = {
            "type": "object",
            "properties": {name: {"type": "boolean"} for name in names},
            "required": names,
            "additionalProperties": False,
        }
        answer = self._ask(self._words["user"].format(report=of, statements=numbered), schema)
        try:
            said = TypeAdapter(dict[str, StrictBool]).validate_json(answer)
            return sum(said[name] for name in names) / len(names)
        except (ValidationError, KeyError) as error:
            raise _NoAnswerError("the answer is not the JSON that was asked for") from error

    def _ask(self, question: str, schema: dict[str, Any]) -> str:
        body = {
            "model": self._judge.model,
            "messages": [
                {"role": "system", "content": self._words["system"]},
                {"role": "user", "content": question},
            ],
            "temperature": 0,
            "seed": 0,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "judgement", "strict": True, "schema": schema},
            },
        }
        for attempt in range(1, _TRIES + 1):
            try:
                return self._post(body)
            except _NoAnswerError:
                if attempt == _TRIES:
                    raise
                time.sleep(attempt)
        raise AssertionError("unreachable")

    def _post(self, body: dict[str, Any]) -> str:
        url, key = self._judge.url.rstrip("/"), self._judge.api_key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            found = httpx.post(
                f"{url}/chat/completions", json=body, headers=headers, timeout=_SECONDS
            )
        except httpx.ConnectError as error:
            raise NotAvailableError(f"a judge that answers at {url} ({error})") from error
        except httpx.HTTPError as error:
            raise _NoAnswerError(type(error).__name__) from error
        if found.status_code in _FOR_EVERY_STUDY:
            raise NotAvailableError(
                f"a judge: {url} answered {found.status_code} for {self._judge.model!r}; see "
                "--judge-model, and CXR_RAG_JUDGE_KEY for its key"
            )
        if found.is_error:
            raise _NoAnswerError(f"HTTP {found.status_code}")
        try:
            return str(found.json()["choices"][0]["message"]["content"])
        except (ValueError, TypeError, LookupError) as error:
            raise _NoAnswerError("the server's answer is no chat completion") from error


def _statements(text: str) -> list[str]:
    return [strip_list_number(text[start:end]) for start, end in sentence_spans(text)]


@lru_cache(maxsize=1)
def _prompt() -> dict[str, str]:
    return tomllib.loads(files("eval").joinpath("judge.toml").read_text(encoding="utf-8"))
