"""A result: every number with n and interval, and who made it of what."""

import hashlib
import math
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from encoders.checkout import current_commit
from eval.metrics.base import MetricGroup, card
from eval.stats import Statistic, bootstrap, estimates, intervals

SCHEMA = "cxr-rag-eval/1"
"""Name and version of result.json; the number grows when the format changes incompatibly."""

_PACKAGES = ("cxr-rag", "numpy", "scipy", "scikit-learn", "sacrebleu", "rouge-score", "torch")


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One number of a table.

    Attributes:
        system: the run, or a trivial baseline.
        subset: "all", "normal", ...
        measure: its printed name.
        value, low, high: None where undefined; low and high are the 95 % interval.
        n: studies it rests on.
        direction: which end is good, in words.
    """

    system: str
    subset: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    direction: str


def numbers_of(
    statistics: Sequence[tuple[str, str, Statistic]],
    *,
    patients: Sequence[str],
    samples: int,
    seed: int,
) -> list[MetricValue]:
    """Every measure with its interval; all of them are resampled with the same draws.

    Args:
        statistics: each with the names of its system and subset.
        patients: of each study, [N]; they are what is resampled.
        samples: number of resamples.
        seed: of the draws.
    """
    unnamed = [statistic for _, _, statistic in statistics]
    values = estimates(unnamed, len(patients))
    ends = intervals(bootstrap(unnamed, patients, samples=samples, seed=seed))
    found = iter(zip(values, ends, strict=True))
    numbers = []
    for system, subset, each in statistics:
        for name, direction, n in zip(each.names, each.directions, each.counts, strict=True):
            value, (low, high) = next(found)
            shown = (finite(value), finite(low), finite(high))
            numbers.append(MetricValue(system, subset, name, *shown, n, direction.value))
    return numbers


def _provenance() -> dict[str, Any]:
    """Versions of the software, and the commit if this is a checkout."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    git = current_commit()
    return {"python": platform.python_version(), "packages": packages, "git": git}


def _command() -> str:
    """The command line, without the names of servers."""
    return re.sub(r"(https?://)[^/\s']+", r"\1HOST", shlex.join(["cxr-rag", *sys.argv[1:]]))


@dataclass(frozen=True, slots=True)
class Result:
    """One evaluation.

    Attributes:
        task: "generation", "zero-shot", "linear-probe", "retrieval", "embedding" or "encoders".
        name: of the run, as printed.
        models: what drafted or embedded: model ids, prompt and hash, as far as known.
        dataset: files with hashes, fingerprint of the study set, counts.
        settings: seed, resamples, level, scope, cleaning.
        cards: of each metric: key, version, measures and what cards.toml says.
        numbers: every number.
        not_available: measures that did not run, and what to put where.
        curves: what plots show: plain JSON, by name.
        notes: what the reader should know.
        created: ISO 8601 in UTC.
        made_by: software that computed the numbers: versions and git hash.
        command: that gave this result, as one could type it again.
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
    made_by: dict[str, Any] = field(default_factory=_provenance)
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
        """One number, if there is one."""
        wanted = (system, subset, measure)
        return next((n for n in self.numbers if (n.system, n.subset, n.measure) == wanted), None)


def file_facts(path: Path | None) -> dict[str, str] | None:
    """Name and SHA-256 of a file; without its folder."""
    if path is None:
        return None
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def card_facts(metric: MetricGroup) -> dict[str, Any]:
    """Card of a metric, with the names of its measures and its version."""
    names = [measure.name for measure in metric.measures]
    return {"key": metric.key, "version": metric.version, "measures": names, **metric.card}


def task_card(task: str, measures: Sequence[str], **blanks: object) -> dict[str, Any]:
    """The same of a task on vectors."""
    about = card(task, **blanks)
    return {"key": about["title"], "version": "1", "measures": list(measures), **about}


def finite(value: float) -> float | None:
    """A float for JSON: None for NaN and infinities."""
    return float(value) if math.isfinite(value) else None
