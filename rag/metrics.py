"""What the pipeline counts for Prometheus: drafts by how they ended, and how long they took.

Numbers and class names only: no patient, no reader, no report.
"""

import logging

from prometheus_client import Counter, Histogram

from rag.prediction import Prediction

logger = logging.getLogger(__name__)

_DRAFTS = Counter("cxr_rag_drafts", "Drafts by how they ended.", ["status", "error"])
_SECONDS = Histogram(
    "cxr_rag_draft_seconds",
    "Seconds of each stage of a draft, and of all together.",
    ["stage"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)


def counted(prediction: Prediction) -> Prediction:
    """A prediction that has ended, after it was counted."""
    _DRAFTS.labels(prediction.status.value, prediction.error).inc()
    for stage, seconds in prediction.seconds.items():
        _SECONDS.labels(stage).observe(seconds)
    how = prediction.error or prediction.status.value
    logger.info("draft: %s in %.2f s", how, prediction.seconds.get("total", 0))
    return prediction
