"""The other engine: Ray Data reads images, encodes them and retrieves reports on many machines.

Every worker is an actor with its own pipeline that does the first half of a study
(`ReportPipeline.prepare`); drafting, checking and writing stay where the batch was started. Ray
restarts a worker that dies and repeats its studies; each is returned once. All nodes need images,
settings and index under the same paths. Needs ``pip install "cxr-rag[ray]"``.
"""

import logging
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from rag.batch.workers import Prepare, prepare_study
from rag.errors import UsageError
from rag.factory import load_encoder, open_pipeline
from rag.pipeline import PreparedStudy, ReportPipeline
from rag.settings import Settings
from rag.study import Study

logger = logging.getLogger(__name__)

MakePipeline = Callable[[], AbstractContextManager[ReportPipeline]]
"""Opens a worker's pipeline; sent to the worker, so it must be picklable."""

_STUDIES_PER_BLOCK = 4  # given to a worker at once, and repeated when it dies
_OBJECT_STORE_BYTES = 256 << 20  # a prepared study has some ten thousand


@contextmanager
def ray_prepare(settings: Settings, *, address: str = "") -> Iterator[Prepare]:
    """The first half of a batch on a Ray cluster.

    Every worker opens the index itself: the folder, or the server of ``chroma_url``.

    Args:
        settings: the same on all nodes.
        address: of a running cluster; empty starts one on this machine, for this run.

    Raises:
        UsageError: Ray is not installed, or does not answer.
    """
    with _connect(address, workers=settings.batch.num_workers):
        yield prepare_on_ray(partial(_open_pipeline, settings), workers=settings.batch.num_workers)


def prepare_on_ray(make_pipeline: MakePipeline, *, workers: int) -> Prepare:
    """The first half of a batch on the connected cluster, with one processor per worker."""

    def prepare(studies: Iterable[Study]) -> Iterator[PreparedStudy]:
        import ray.data  # noqa: PLC0415 - an extra

        items = [{"study": pickle.dumps(study)} for study in studies]
        if not items:
            return
        ray.data.DataContext.get_current().enable_progress_bars = False
        blocks = -(-len(items) // _STUDIES_PER_BLOCK)
        rows = ray.data.from_items(items, override_num_blocks=blocks).map(
            _Worker,
            fn_constructor_args=(make_pipeline,),
            compute=ray.data.ActorPoolStrategy(size=min(workers, blocks)),
            num_cpus=1,
        )
        for row in rows.iter_rows():
            # S301: pickled by our own workers, on a cluster that runs our code anyway
            yield pickle.loads(row["prepared"])  # noqa: S301

    return prepare


class _Worker:
    """An actor with a pipeline."""

    def __init__(self, make_pipeline: MakePipeline) -> None:
        self._context = make_pipeline()  # kept: closes the index when collected
        self._pipeline = self._context.__enter__()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        study = pickle.loads(row["study"])  # noqa: S301 - as above
        return {"prepared": pickle.dumps(prepare_study(self._pipeline, study))}


def _open_pipeline(settings: Settings) -> AbstractContextManager[ReportPipeline]:
    return open_pipeline(settings, load_encoder(settings))


def _connect(address: str, *, workers: int) -> AbstractContextManager[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    try:
        import ray  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise UsageError(
            '--engine ray needs Ray: pip install "cxr-rag[ray]", on every node'
        ) from error
    if ray.is_initialized():
        return nullcontext()
    options: dict[str, Any] = {"address": address}
    if not address:
        options = {
            "address": "local",
            "num_cpus": workers,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        context = ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    finally:
        signal.signal(signal.SIGTERM, handler)  # ours finishes drafts in progress
    logger.info("Ray nodes: %d", len(ray.nodes()))
    connected: AbstractContextManager[Any] = context
    return connected
