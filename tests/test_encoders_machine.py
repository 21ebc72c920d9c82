"""A value that threads share is built once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from encoders.machine import built_once


def test_the_first_thread_builds_the_value_and_the_others_wait() -> None:
    all_called, builders = threading.Barrier(4), []

    @built_once
    def value() -> object:
        builders.append(threading.current_thread())
        return threading.Event().wait(0.05), object()

    def call(_: int) -> object:
        all_called.wait()
        return value()

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(call, range(4)))
    assert len(builders) == 1
    assert all(value is values[0] for value in values)
