"""Comparison of two runs on the same studies: differences with intervals, paired tests, Holm.

It uses the saved statistics: nothing is scored again and no weights are needed.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.errors import EvalDataError, EvalMismatchError, EvalUsageError
from eval.metrics.base import Direction, SufficientStats, metric_class
from eval.result_io import STATISTICS, read_result
from eval.results import Result, finite
from eval.stats import bootstrap, estimates, holm, intervals, randomisation_test, summed_statistic
from eval.tables import escape, markdown_table


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One measure of two runs.

    Attributes:
        difference: second minus first, with its 95 % interval.
        p: of paired approximate randomisation.
        p_holm: adjusted over all measures compared.
        better: "first" or "second"; "" if p_holm is .05 or more, or there is no direction.
    """

    measure: str
    direction: str
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    better: str


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs, measure by measure; ``not_compared`` are metrics not scored alike in both."""

    first: str
    second: str
    studies: int
    patients: int
    samples: int
    seed: int
    differences: list[MetricDifference]
    not_compared: list[str]


@dataclass(frozen=True, slots=True)
class _SavedSystem:
    """One system of a saved result, with its rows of statistics by metric key."""

    result: Result
    system: str
    patients: tuple[str, ...]
    studies: tuple[str, ...]
    rows: dict[str, SufficientStats]

    @property
    def title(self) -> str:
        is_run = self.system == self.result.name
        return self.system if is_run else f"{self.system} of {self.result.name}"


def compare(
    first: Path,
    second: Path,
    *,
    first_system: str = "",
    second_system: str = "",
    samples: int = 10_000,
    seed: int = 0,
) -> RunComparison:
    """Compare two saved results.

    Args:
        first: folder of a generation result.
        second: another, or the same to compare a run with its baseline.
        first_system: a system of the first result; default: its run.
        second_system: a system of the second result; default: its run.
        samples: number of bootstrap resamples and of random swaps.
        seed: of both.

    Raises:
        EvalUsageError: no result, or no such system in it.
        EvalMismatchError: other studies, references or cleaning.
    """
    one, two = _load(first, first_system), _load(second, second_system)
    _check_comparable(one, two)
    keys = _shared_metrics(one, two)
    names = one.title, two.title
    if names[0] == names[1]:
        names = f"{names[0]} (1)", f"{names[1]} (2)"
    return RunComparison(
        first=names[0],
        second=names[1],
        studies=len(one.studies),
        patients=len(set(one.patients)),
        samples=samples,
        seed=seed,
        differences=_differences(one, two, keys, samples=samples, seed=seed),
        not_compared=sorted((one.rows.keys() | two.rows.keys()) - set(keys)),
    )


def as_markdown(comparison: RunComparison) -> str:
    """The comparison as a table below a description of the method."""
    names = {"first": comparison.first, "second": comparison.second}
    rows = [
        [
            f"{d.measure}{Direction(d.direction).arrow}",
            _format(d.first),
            _format(d.second),
            f"{_format(d.difference, '+')} [{_format(d.low, '+')}, {_format(d.high, '+')}]",
            _format_p(d.p),
            _format_p(d.p_holm),
            names.get(d.better, ""),
        ]
        for d in comparison.differences
    ]
    header = ["measure", *map(escape, names.values()), "difference", "p", "p (Holm)", "better"]
    family_size = sum(d.p_holm is not None for d in comparison.differences)
    text = (
        f"n = {comparison.studies} studies of {comparison.patients} patients; 95 % percentile "
        "interval of the difference and two-sided paired approximate randomisation, patients "
        f"resampled and swapped whole, {comparison.samples} draws, seed {comparison.seed}; Holm "
        f"over the {family_size} measures with a direction.\n\n{markdown_table(header, rows)}"
    )
    if not_compared := ", ".join(comparison.not_compared):
        text += f"\n\nNot compared (another version, or in one run only): {not_compared}"
    return text


def _load(folder: Path, system: str) -> _SavedSystem:
    result = read_result(folder)
    if result.task != "generation":
        raise EvalUsageError(
            f"{folder} is a {result.task} result: only generation results can be compared"
        )
    system = system or result.name
    if system not in result.systems():
        choices = ", ".join(result.systems())
        raise EvalUsageError(f"{folder} has no system {system!r}: choose from {choices}")
    path = folder / STATISTICS
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            rows = {
                name.removeprefix(f"{system}/"): saved[name]
                for name in saved.files
                if name.startswith(f"{system}/")
            }
            patients, studies = (tuple(map(str, saved[n])) for n in ("patient_id", "study_id"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EvalDataError(f"{path} is missing or damaged ({error}): score again") from error
    return _SavedSystem(result, system, patients, studies, rows)


def _check_comparable(one: _SavedSystem, two: _SavedSystem) -> None:
    first, second = one.result, two.result
    if first.dataset["fingerprint"] != second.dataset["fingerprint"]:
        differing = len(set(one.studies) ^ set(two.studies))
        reason = (
            f"{differing} studies are in one only" if differing else "their reference texts differ"
        )
        raise EvalMismatchError(
            f"{first.name} and {second.name} were scored on different studies "
            f"({len(one.studies)} and {len(two.studies)}; {reason}): score both on the same "
            "references, split and scope"
        )
    if first.settings["cleaning"] != second.settings["cleaning"]:
        raise EvalMismatchError(
            f"{first.name} was scored with cleaning {first.settings['cleaning']}, {second.name} "
            f"with {second.settings['cleaning']}: score both with one"
        )


def _shared_metrics(one: _SavedSystem, two: _SavedSystem) -> list[str]:
    """Keys of the metrics that were scored alike in both."""
    first, second = (
        {card["key"]: (card["version"], card["words"]) for card in saved.result.cards}
        for saved in (one, two)
    )
    keys = [key for key in one.rows if key in two.rows and first.get(key) == second.get(key)]
    if not keys:
        raise EvalMismatchError("no metric was scored alike in both: score again")
    return keys


def _differences(
    one: _SavedSystem, two: _SavedSystem, keys: list[str], *, samples: int, seed: int
) -> list[MetricDifference]:
    patients, options = one.patients, {"samples": samples, "seed": seed}
    groups = {key: metric_class(key).measures for key in keys}
    statistics = [
        [summed_statistic(measures, saved.rows[key], patients) for key, measures in groups.items()]
        for saved in (one, two)
    ]
    first, second = (estimates(s, len(patients)) for s in statistics)
    resampled = [bootstrap(s, patients, **options) for s in statistics]
    limits = intervals(resampled[1] - resampled[0])
    p_values = np.concatenate(
        [
            randomisation_test(one.rows[key], two.rows[key], patients, measures, **options)
            for key, measures in groups.items()
        ]
    )
    measures = [measure for group in groups.values() for measure in group]
    # a measure without a direction has no winner, so it is not part of the family
    has_winner = [measure.direction is not Direction.NONE for measure in measures]
    adjusted = holm(np.where(has_winner, p_values, np.nan).tolist())
    columns = (first, second, second - first, *limits.T, p_values, np.array(adjusted))
    differences = []
    for measure, *numbers in zip(measures, *columns, strict=True):
        a, b, difference, low, high, p, p_holm = map(finite, numbers)
        name, direction, better = measure.name, measure.direction, ""
        if difference and p_holm is not None and p_holm < 0.05:
            better = "second" if (difference > 0) == (direction is Direction.HIGHER) else "first"
        differences.append(
            MetricDifference(name, direction.value, a, b, difference, low, high, p, p_holm, better)
        )
    return differences


def _format(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _format_p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
