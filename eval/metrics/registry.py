"""Which families of measures there are. Imports one only when it is asked for."""

from collections.abc import Iterable
from importlib import import_module

from eval.errors import EvalUsageError, NotAvailableError
from eval.metrics.base import Card, Measure, MetricGroup, Setup
from eval.text import Cleaning

RULE_BASED = ("bleu", "rouge", "meteor", "cider", "labels", "stated", "diversity", "grounding")
"""Run unless others are asked for: no model weights."""

MODEL_BASED = ("bertscore", "chexbert", "radgraph", "radcliq", "ratescore", "green")
"""Run when their weights are here."""

KEYS = RULE_BASED + MODEL_BASED


def families(keys: Iterable[str], setup: Setup) -> tuple[list[MetricGroup], dict[str, str]]:
    """Families that can run here, and for the others what to put where.

    Raises:
        EvalUsageError: a key that no family has.
    """
    ready, missing = [], {}
    for key in keys:
        try:
            ready.append(family(key, setup))
        except NotAvailableError as error:
            missing[key] = str(error)
    return ready, missing


def family(key: str, setup: Setup) -> MetricGroup:
    """One family by its key.

    Raises:
        EvalUsageError: no family has this key.
        NotAvailableError: it needs what is not here.
    """
    if key not in KEYS:
        raise EvalUsageError(f"unknown measure {key!r}: choose from {', '.join(KEYS)}")
    built: MetricGroup = import_module(f"eval.metrics.{key}").family(setup)
    return built


def measures(key: str) -> tuple[Measure, ...]:
    """Measures of a family, without what it needs to score."""
    found: tuple[Measure, ...] = import_module(f"eval.metrics.{key}").MEASURES
    return found


def card(key: str, cleaning: Cleaning) -> Card:
    """Card of a family, without what it needs to score."""
    found: Card = import_module(f"eval.metrics.{key}").card(cleaning)
    return found
