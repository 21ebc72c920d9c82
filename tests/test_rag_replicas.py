"""The least loaded server is asked; trouble slows down, an outage is waited for."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import fake_llm
import pytest

from rag.concurrency import AdaptiveLimit
from rag.errors import LlmOutputError, LlmUnavailableError
from rag.llm.client import Completion, Messages
from rag.replicas import OutageError, ReplicaPool
from rag.settings import LlmSettings

ASK: Messages = [("user", "?")]


class FakeServer:
    """Answers after a while with room for so many at once; more of them wait in its queue."""

    def __init__(self, *, room: int = 4, seconds: float = 0.01) -> None:
        self.room = threading.Semaphore(room)
        self.seconds = seconds
        self.errors: list[Exception] = []
        self.down = False
        self.answered = 0
        self.most = 0
        self.under_way = 0
        self._lock = threading.Lock()

    def stream(
        self, messages: Messages, *, schema: dict[str, Any]
    ) -> Iterator[tuple[str, Completion | None]]:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            if self.down:
                raise LlmUnavailableError("down")
            if self.errors:
                raise self.errors.pop(0)
            with self.room:
                time.sleep(self.seconds)
            self.answered += 1
            yield "{}", Completion("{}", "m", 1, 1, self.seconds)
        finally:
            with self._lock:
                self.under_way -= 1


def ask_many(pool: ReplicaPool, count: int, *, threads: int) -> None:
    left = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            pool.ask(ASK, schema={})

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)


def test_two_servers_share_the_work() -> None:
    servers = [FakeServer(), FakeServer()]
    ask_many(ReplicaPool(servers, model="m"), 60, threads=8)
    assert sum(server.answered for server in servers) == 60
    assert min(server.answered for server in servers) >= 20


def test_a_slow_server_gets_less() -> None:
    quick, slow = FakeServer(seconds=0.005), FakeServer(seconds=0.05)
    ask_many(ReplicaPool([quick, slow], model="m"), 100, threads=6)
    assert quick.answered > 2 * slow.answered


def test_a_server_that_fails_is_left_alone_and_nothing_is_lost() -> None:
    well, ill = FakeServer(), FakeServer()
    ill.down = True
    ask_many(ReplicaPool([well, ill], model="m", retries=1), 40, threads=6)
    assert well.answered == 40


def test_a_question_that_always_fails_is_given_up_after_its_retries() -> None:
    server = FakeServer()
    server.errors = [LlmUnavailableError("no", retry_after=0.01) for _ in range(9)]
    pool = ReplicaPool([server], model="m", retries=2)
    with pytest.raises(LlmUnavailableError) as found:
        pool.ask(ASK, schema={})
    assert not isinstance(found.value, OutageError)
    assert len(server.errors) == 6


def test_an_answer_that_is_no_draft_is_not_asked_for_again() -> None:
    server = FakeServer()
    server.errors = [LlmOutputError("cut off")]
    pool = ReplicaPool([server], model="m")
    with pytest.raises(LlmOutputError):
        pool.ask(ASK, schema={})
    assert pool.ask(ASK, schema={}).text == "{}"


def test_an_outage_is_waited_for() -> None:
    server = FakeServer()
    server.down = True
    pool = ReplicaPool(
        [server], model="m", retries=0, outage_timeout_s=60, alive=lambda: not server.down
    )
    threading.Timer(0.3, lambda: setattr(server, "down", False)).start()
    assert pool.ask(ASK, schema={}).text == "{}"


def test_an_outage_that_lasts_is_no_failure_of_the_question() -> None:
    server = FakeServer()
    server.down = True
    pool = ReplicaPool(
        [server], model="m", retries=0, outage_timeout_s=0.2, alive=lambda: not server.down
    )
    with pytest.raises(OutageError, match="no model server for"):
        pool.ask(ASK, schema={})


def test_stopping_frees_those_that_wait() -> None:
    server = FakeServer(seconds=0.2)
    pool = ReplicaPool([server], model="m", max_concurrency=1)
    outcome: list[str] = []

    def ask() -> None:
        try:
            outcome.append(pool.ask(ASK, schema={}).text)
        except OutageError:
            outcome.append("not asked")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    pool.stop()
    for thread in threads:
        thread.join(5)
    assert sorted(outcome) == ["not asked", "not asked", "{}"]


def test_real_clients_over_two_urls() -> None:
    with fake_llm.serve() as one, fake_llm.serve() as other:
        settings = LlmSettings(url=one.url, replicas=(other.url,), model=fake_llm.MODEL)
        pool = ReplicaPool.of(settings)
        ask_many(pool, 12, threads=4)
        assert len(one.requests) + len(other.requests) == 12
        assert min(len(one.requests), len(other.requests)) >= 2


class FakeClock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run_limit(limit: AdaptiveLimit, clock: FakeClock, *, capacity: int, answers: int) -> list[int]:
    """A server that works on so many at once, each for a second; the limits over time."""
    seen = []
    for _ in range(answers):
        clock.now += 1 / min(limit.value, capacity)
        limit.succeeded(busy=True)
        seen.append(limit.value)
    return seen


@pytest.mark.parametrize("capacity", [1, 3, 8, 20, 40])
def test_the_limit_finds_what_the_server_can_do(capacity: int) -> None:
    clock = FakeClock()
    limit = AdaptiveLimit(start=2, most=64, clock=clock)
    seen = run_limit(limit, clock, capacity=capacity, answers=6000)
    settled = sorted(seen[3000:])
    median = settled[len(settled) // 2]
    assert capacity <= median <= max(2 * capacity, 2)
    assert max(settled) <= 4 * max(capacity, 2)


def test_trouble_halves_the_limit_and_calm_brings_it_back() -> None:
    clock = FakeClock()
    limit = AdaptiveLimit(start=16, most=64, clock=clock)
    limit.failed()
    assert limit.value == 8
    seen = run_limit(limit, clock, capacity=16, answers=3000)
    assert max(seen) >= 12


def test_a_server_that_is_not_busy_tells_nothing() -> None:
    clock = FakeClock()
    limit = AdaptiveLimit(start=4, clock=clock)
    for _ in range(500):
        clock.now += 1
        limit.succeeded(busy=False)
    assert limit.value == 4
