"""Several servers of one model behind one face: each question goes to the least loaded.

Owns how many questions each server gets at once (`rag.concurrency`), who is asked again after a
failure, and when an outage is no longer a study's own failure. Each server is one
`rag.llm.client.ChatClient`. Knows nothing of studies.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from rag.concurrency import AdaptiveLimit
from rag.errors import LlmError, LlmUnavailableError
from rag.llm.client import ChatClient, Completion, Messages
from rag.llm.vllm_server import served_models
from rag.settings import LlmSettings

logger = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 30.0


class OutageError(Exception):
    """No server has been there for too long, or nobody may wait any more: no study's failure.

    Not a `CxrRagError`, so that no study is failed by it: who runs many studies ends the run.
    """


class Client(Protocol):
    """What a server is asked through; a `ChatClient` that does not ask again by itself."""

    def stream(
        self, messages: Messages, *, schema: dict[str, Any]
    ) -> Iterator[tuple[str, Completion | None]]:
        """As `ChatClient.stream`."""


@dataclass(slots=True, eq=False)
class _Replica:
    client: Client
    limit: AdaptiveLimit
    under_way: int = 0
    failures: int = 0  # in a row
    rests_until: float = 0.0


@dataclass(slots=True)
class _Attempts:
    """What one question has been through."""

    failed: int = 0
    since: float = field(default_factory=time.monotonic)


class ReplicaPool:
    """Asks whichever server has the least to do. Thread-safe; a `rag.pipeline.LanguageModel`.

    A server that fails is left alone for a growing while, and the question goes to another. A
    question is given up when it failed ``retries + 1`` times although a server is there. While none
    is, everybody waits, for ``outage_timeout_s`` at the most.

    Args:
        clients: one a server.
        model: the name they all serve the model by.
        retries: further attempts of one question.
        max_concurrency: upper bound of questions under way at one server.
        outage_timeout_s: how long an outage of all servers is waited for.
        alive: whether any server is there; asked only after failures.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        *,
        model: str,
        retries: int = 2,
        max_concurrency: int = 64,
        outage_timeout_s: float = 300,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        self.model = model
        self._replicas = [
            _Replica(client, AdaptiveLimit(most=max_concurrency)) for client in clients
        ]
        self._retries = retries
        self._patience = outage_timeout_s
        self._alive = alive
        self._change = threading.Condition()
        self._last_answer = time.monotonic()
        self._stopped = False

    @classmethod
    def of(
        cls, settings: LlmSettings, *, max_concurrency: int = 64, outage_timeout_s: float = 300
    ) -> "ReplicaPool":
        """The servers of the settings: ``url`` and ``replicas``."""
        urls = (settings.url, *settings.replicas)
        clients = [
            ChatClient(settings.model_copy(update={"url": url, "retries": 0})) for url in urls
        ]
        return cls(
            clients,
            model=settings.model,
            retries=settings.retries,
            max_concurrency=max_concurrency,
            outage_timeout_s=outage_timeout_s,
            alive=lambda: any(served_models(url) for url in urls),
        )

    @property
    def at_once(self) -> int:
        """Questions that may be under way now, over all servers."""
        with self._change:
            return sum(replica.limit.value for replica in self._replicas)

    def stop(self) -> None:
        """Let nobody wait any longer: questions that are not under way raise `OutageError`."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def ask(self, messages: Messages, *, schema: dict[str, Any]) -> Completion:
        """The whole answer; see `stream`."""
        *_, (_, completion) = self.stream(messages, schema=schema)
        assert completion is not None  # noqa: S101 - a stream ends with one or raises
        return completion

    def stream(
        self, messages: Messages, *, schema: dict[str, Any]
    ) -> Iterator[tuple[str, Completion | None]]:
        """As `rag.llm.client.ChatClient.stream`; after a broken stream the text begins anew.

        Raises:
            OutageError: nobody was answered for ``outage_timeout_s``, or `stop` was called.
            LlmUnavailableError: this question failed too often while others were answered.
            LlmRejectedError, LlmOutputError: asking again would not help.
        """
        attempts = _Attempts()
        while True:
            try:
                with self._turn() as replica:
                    yield from replica.client.stream(messages, schema=schema)
            except LlmUnavailableError as error:
                self._judge(attempts, error)
            else:
                return

    def _judge(self, attempts: _Attempts, error: LlmUnavailableError) -> None:
        """Return if the question may be asked again."""
        attempts.failed += 1
        if attempts.failed > self._retries:
            if attempts.since < self._last_answer or self._alive():
                raise error  # others are answered: it is this question
            silent = time.monotonic() - max(self._last_answer, attempts.since)
            if silent > self._patience:
                raise OutageError(
                    f"no model server for {silent:.0f} s (the last error: {error})"
                ) from error

    @contextmanager
    def _turn(self) -> Iterator[_Replica]:
        """The least loaded server that has room, as soon as there is one."""
        with self._change:
            while (replica := self._free()) is None:
                if self._stopped:
                    raise OutageError("stopped before it was asked")
                self._change.wait(0.2)
            replica.under_way += 1
            busy = replica.under_way >= replica.limit.value
        failed: LlmUnavailableError | None = None
        answered = False
        try:
            yield replica
            answered = True
        except LlmUnavailableError as error:
            failed = error
            raise
        except LlmError:
            answered = True  # not with a draft, but the server is well
            raise
        finally:
            with self._change:
                replica.under_way -= 1
                if failed:
                    self._note_failure(replica, failed)
                elif answered:
                    self._last_answer = time.monotonic()
                    replica.failures = 0
                    replica.limit.succeeded(busy=busy)
                self._change.notify_all()

    def _note_failure(self, replica: _Replica, error: LlmUnavailableError) -> None:
        now = time.monotonic()
        if now >= replica.rests_until:  # of several that fail together, one counts
            replica.failures += 1
            replica.limit.failed()
            pause = error.retry_after or 0.5 * 2.0**replica.failures
            replica.rests_until = now + min(pause, LONGEST_PAUSE_SECONDS, max(self._patience, 0.5))
            logger.info("a model server failed; it is left alone for %.1f s", pause)

    def _free(self) -> _Replica | None:
        now = time.monotonic()
        free = [
            replica
            for replica in self._replicas
            if replica.under_way < replica.limit.value and replica.rests_until <= now
        ]
        return min(free, key=lambda one: one.under_way / one.limit.value, default=None)
