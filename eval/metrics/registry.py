"""Which metrics there are. Imports one only when it is asked for."""

from collections.abc import Iterable
from importlib import import_module

from eval.errors import EvalUsageError, NotAvailableError
from eval.metrics.base import MetricGroup, Setup

_CLASSES = {
    "bleu": "Bleu",
    "rouge": "RougeL",
    "meteor": "Meteor",
    "cider": "CiderD",
    "labels": "LabelF1",
    "stated": "Stated",
    "diversity": "Diversity",
    "grounding": "Grounding",
    "bertscore": "BertScore",
    "chexbert": "Chexbert",
    "radgraph": "RadGraph",
    "radcliq": "RadCliQ",
    "ratescore": "RateScore",
    "green": "Green",
}
"""Module and class of each."""

KEYS = tuple(_CLASSES)
RULE_BASED, MODEL_BASED = KEYS[:8], KEYS[8:]
"""Those without model weights run by default; the others where their weights are here."""


def load_metrics(keys: Iterable[str], setup: Setup) -> tuple[list[MetricGroup], dict[str, str]]:
    """Metrics that can run here, and for the others what to install.

    Raises:
        EvalUsageError: an unknown key.
    """
    ready, missing = [], {}
    for key in keys:
        try:
            ready.append(metric_class(key)(setup))
        except NotAvailableError as error:
            missing[key] = str(error)
    return ready, missing


def metric_class(key: str) -> type[MetricGroup]:
    """The class of a metric: its card and measures are known without its weights.

    Raises:
        EvalUsageError: an unknown key.
    """
    if key not in KEYS:
        raise EvalUsageError(f"unknown measure {key!r}: choose from {', '.join(KEYS)}")
    found: type[MetricGroup] = getattr(import_module(f"eval.metrics.{key}"), _CLASSES[key])
    return found
