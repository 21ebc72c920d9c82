"""The result of an evaluation: every number with n and interval, and its provenance."""

import hashlib
import math
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from encoders.checkout import current_commit
from eval.metrics.base import MetricGroup, card
from eval.stats import Statistic, bootstrap, estimates, intervals

SCHEMA = "cxr-rag-eval/1"
"""Name and version of the format of result.json."""

_PACKAGES = ("cxr-rag", "numpy", "scipy", "scikit-learn", "sacrebleu", "rouge-score", "torch")


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One number of a table.

    Attributes:
        system: the run, or a baseline.
        subset: "all", "normal", ...
        value, low, high: with its 95 % interval; None if undefined.
        n: number of studies it is based on.
        direction: value of a `Direction`.
    """

    system: str
    subset: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    direction: str


def metric_values(
    statistics: Sequence[tuple[str, str, Statistic]],
    *,
    patients: Sequence[str],
    samples: int,
    seed: int,
) -> list[MetricValue]:
    """Every measure with its interval, all from the same resamples of patients.

    Args:
        statistics: system, subset and statistic.
        patients: patient of each study, [N].
        samples: number of resamples.
        seed: of the resamples.
    """
    unnamed = [statistic for _, _, statistic in statistics]
    estimated = estimates(unnamed, len(patients))
    limits = intervals(bootstrap(unnamed, patients, samples=samples, seed=seed))
    remaining = iter(zip(estimated, limits, strict=True))
    values = []
    for system, subset, s in statistics:
        for name, direction, n in zip(s.names, s.directions, s.counts, strict=True):
            value, (low, high) = next(remaining)
            interval = finite(low), finite(high)
            value = finite(value)
            values.append(MetricValue(system, subset, name, value, *interval, n, direction.value))
    return values


def _software() -> dict[str, Any]:
    """Versions, and the commit if this is a checkout."""
    packages = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    git = current_commit()
    return {"python": platform.python_version(), "packages": packages, "git": git}


def _command() -> str:
    """The command line, without host names."""
    return re.sub(r"(https?://)[^/\s']+", r"\1HOST", shlex.join(["cxr-rag", *sys.argv[1:]]))


@dataclass(frozen=True, slots=True)
class Result:
    """One evaluation.

    Attributes:
        task: "generation", "zero-shot", "linear-probe", "retrieval", "embedding" or "encoders".
        name: of the run, as printed.
        models: ids and hashes of what drafted or embedded.
        dataset: files with hashes, fingerprint of the study set, counts.
        cards: of each metric: key, version, measures and its entry of cards.toml.
        not_available: metrics that did not run, and what they lack.
        curves: data of the plots, by name.
        created: ISO 8601 in UTC.
        made_by: versions and git hash of the software.
    """

    task: str
    name: str
    models: dict[str, list[str]]
    dataset: dict[str, Any]
    settings: dict[str, Any]
    cards: list[dict[str, Any]]
    numbers: list[MetricValue]
    not_available: dict[str, str] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    made_by: dict[str, Any] = field(default_factory=_software)
    command: str = field(default_factory=_command)
    schema: str = SCHEMA

    def systems(self) -> list[str]:
        """Systems in table order: the run first."""
        return list(dict.fromkeys(number.system for number in self.numbers))

    def subsets(self) -> list[str]:
        """Subsets in table order."""
        return list(dict.fromkeys(number.subset for number in self.numbers))

    def measures(self) -> list[str]:
        """Measures in table order."""
        return list(dict.fromkeys(number.measure for number in self.numbers))

    def number(self, *, system: str, subset: str, measure: str) -> MetricValue | None:
        """One number, or None."""
        key = (system, subset, measure)
        return next((n for n in self.numbers if (n.system, n.subset, n.measure) == key), None)


def file_info(path: Path | None) -> dict[str, str] | None:
    """Name and SHA-256 of a file."""
    if path is None:
        return None
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def metric_card(metric: MetricGroup) -> dict[str, Any]:
    """Card of a metric, with its version and the names of its measures."""
    names = [measure.name for measure in metric.measures]
    return {"key": metric.key, "version": metric.version, "measures": names, **metric.card}


def task_card(task: str, measures: Sequence[str], **blanks: object) -> dict[str, Any]:
    """Card of a task on vectors, likewise."""
    text = card(task, **blanks)
    return {"key": text["title"], "version": "1", "measures": list(measures), **text}


def finite(value: float) -> float | None:
    """A float for JSON: None for NaN and infinities."""
    return float(value) if math.isfinite(value) else None
