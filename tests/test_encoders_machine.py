"""What threads share is made by one of them."""

import threading
from concurrent.futures import ThreadPoolExecutor

from encoders.machine import built_once


def test_a_value_is_built_by_the_first_thread_that_asks_and_waited_for_by_the_others() -> None:
    everybody_asks, built = threading.Barrier(4), []

    @built_once
    def value() -> object:
        built.append(threading.current_thread())
        return threading.Event().wait(0.05), object()

    def ask(_: int) -> object:
        everybody_asks.wait()
        return value()

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(ask, range(4)))
    assert len(built) == 1
    assert all(each is values[0] for each in values)
