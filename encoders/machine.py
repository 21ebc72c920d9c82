"""What this machine can do at once: threads that work ahead, and bfloat16."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from threading import Lock
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def built_once(build: Callable[[], _Out]) -> Callable[[], _Out]:
    """A value that is built when it is first asked for; other threads wait for it.

    With `functools.lru_cache` each thread that asks before the first one is ready builds its own.
    """
    lock, built = Lock(), list[_Out]()

    @wraps(build)
    def get() -> _Out:
        if not built:
            with lock:
                if not built:
                    built.append(build())
        return built[0]

    return get


def map_ahead(
    work: Callable[[_In], _Out], items: Iterable[_In], *, threads: int, ahead: int
) -> Iterator[_Out]:
    """`map` by several threads, in the order of the items; items are taken as results are.

    An exception is raised where its result would come. With 0 threads the caller works; ``ahead``
    results may wait to be taken.
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
    """Whether bfloat16 is faster than float32 on the GPU, or else on the processor.

    A CPU without the instructions (AVX-512 on x86) only imitates it: on one with AVX2 alone, a
    3 x 3 convolution took 25 times as long as in float32, and a language model of 135 M parameters
    six times as long.
    """
    import torch  # noqa: PLC0415 - takes seconds

    if gpu:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
