"""Stage timings of the pipeline, and Prometheus counters of drafts by outcome.

Numbers and class names only: no patient, no reader, no report.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from prometheus_client import Counter, Histogram

from rag.prediction import Prediction
from rag.schema import Status

logger = logging.getLogger(__name__)

_DRAFTS = Counter("cxr_rag_drafts", "Drafts by outcome.", ["status", "error"])
_SECONDS = Histogram(
    "cxr_rag_draft_seconds",
    "Seconds per stage of a draft, and in total.",
    ["stage"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)


class Stopwatch:
    """Wall time by stage, and in total."""

    def __init__(self, seconds: Mapping[str, float] = MappingProxyType({})) -> None:
        self.seconds = dict(seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to this stage and to the total."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            for key in (name, "total"):
                self.seconds[key] = self.seconds.get(key, 0.0) + seconds


def count_prediction(prediction: Prediction) -> Prediction:
    """Count and log a prediction that has ended, once it will not be tried again; returns it."""
    if prediction.status is Status.RUNNING:
        return prediction
    _DRAFTS.labels(prediction.status.value, prediction.error).inc()
    for stage, seconds in prediction.seconds.items():
        _SECONDS.labels(stage).observe(seconds)
    logger.log(
        logging.WARNING if prediction.status is Status.FAILED else logging.INFO,
        "draft: %s in %.2f s",
        prediction.error or prediction.status.value,
        prediction.seconds.get("total", 0),
    )
    return prediction
