"""`map` by several threads, in order, a few items ahead of what is taken."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def map_ahead(
    work: Callable[[_In], _Out], items: Iterable[_In], *, threads: int, ahead: int
) -> Iterator[_Out]:
    """Results in the order of the items; an exception is raised where its result would come.

    Args:
        work: safe to call from several threads.
        items: taken one by one, as results are.
        threads: how many work; with 0 the caller does.
        ahead: results that may wait to be taken.
    """
    if not threads:
        yield from map(work, items)
        return
    pending: deque[Future[_Out]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
