"""How many requests a server gets at once: grown while that brings more answers, cut on trouble.

A language-model server batches what it has, so that more requests at once mean more answers a
second, up to a point that only the server knows. Beyond it requests wait in its queue until they
time out. Knows nothing of models.
"""

import time
from collections.abc import Callable

SMALLEST_WINDOW = 8
"""Answers over which a rate is measured, at the least: fewer are noise."""

GROWTH = 1.5
WORTH_IT = 1.05
"""A higher limit is kept if it brings so many times the rate of the lower one."""

WINDOWS_OF_REST = 10
"""Windows for which a limit is kept once more would bring nothing; then it is tried again."""


class AdaptiveLimit:
    """The number of requests that may be under way. Not thread-safe: its owner holds a lock.

    Args:
        start: requests at the beginning.
        most: never more than these.
        clock: seconds, monotonic.
    """

    def __init__(
        self, *, start: int = 4, most: int = 64, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.value = min(start, most)
        self._most = most
        self._clock = clock
        self._before: tuple[int, float] | None = None  # limit and rate before the last growth
        self._rest = 0
        self._begin()

    def succeeded(self, *, busy: bool) -> None:
        """An answer came.

        Args:
            busy: as many requests as allowed were under way: else the rate says nothing.
        """
        self._answers += 1
        self._busy += busy
        if self._answers < max(SMALLEST_WINDOW, 2 * self.value):
            return
        rate = self._answers / max(self._clock() - self._started, 1e-9)
        if self._busy >= self._answers / 2:
            self._judge(rate)
        self._begin()

    def failed(self) -> None:
        """The server was busy, timed out or broke off: half as many from now on."""
        self.value = max(1, self.value // 2)
        self._before = None
        self._rest = WINDOWS_OF_REST
        self._begin()

    def _judge(self, rate: float) -> None:
        if self._rest:
            self._rest -= 1
            return
        if self._before is not None and rate < WORTH_IT * self._before[1]:
            self.value = self._before[0]
            self._before = None
            self._rest = WINDOWS_OF_REST
            return
        grown = min(self._most, max(self.value + 1, int(self.value * GROWTH)))
        self._before = (self.value, rate) if grown > self.value else None
        self.value = grown

    def _begin(self) -> None:
        self._answers = self._busy = 0
        self._started = self._clock()
