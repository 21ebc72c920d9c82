"""Threads that work ahead, values built once, and whether bfloat16 is fast on this machine."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from threading import Lock
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def built_once(build: Callable[[], _Out]) -> Callable[[], _Out]:
    """Decorator: build a value at the first call only, while other threads wait for it.

    With `functools.lru_cache` every thread that calls before the first is done builds its own.
    """
    lock, values = Lock(), list[_Out]()

    @wraps(build)
    def get() -> _Out:
        if not values:
            with lock:
                if not values:
                    values.append(build())
        return values[0]

    return get


def map_ahead(
    work: Callable[[_In], _Out], items: Iterable[_In], *, threads: int, ahead: int
) -> Iterator[_Out]:
    """`map` in several threads, in the order of the items, at most ``ahead`` results in advance.

    An exception is raised in place of its result. With 0 threads, items are computed by the caller.
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


def supports_bfloat16(*, gpu: bool) -> bool:
    """Whether the GPU, or else the CPU, computes bfloat16 natively.

    A CPU without the instructions (AVX-512 on x86) emulates it: with AVX2 alone, a 3 x 3
    convolution took 25 times as long as in float32, and a language model of 135 M parameters six
    times as long.
    """
    import torch  # noqa: PLC0415 - takes seconds

    if gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
