"""Two runs on the same studies: differences with intervals, paired tests, Holm.

Uses the saved statistics: nothing is scored again and no weights are needed.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.errors import EvalDataError, EvalMismatchError, EvalUsageError
from eval.metrics.base import Direction, SufficientStats, metric_class
from eval.report.tables import markdown_table, plain
from eval.result_io import STATISTICS, read_result
from eval.results import Result, finite
from eval.stats import bootstrap, estimates, holm, intervals, randomisation_test, summed_statistic


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One measure of two runs.

    Attributes:
        first, second: the scores; difference is second minus first.
        low, high: 95 % interval of the difference.
        p: of paired approximate randomisation; p_holm: adjusted over all measures compared.
        better: "first", "second" or "" where Holm's p is .05 or more, or there is no direction.
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
    """Two runs, measure by measure.

    Attributes:
        not_compared: metrics that were scored by different versions, or in one run only.
    """

    first: str
    second: str
    studies: int
    patients: int
    samples: int
    seed: int
    differences: list[MetricDifference]
    not_compared: list[str]


@dataclass(frozen=True, slots=True)
class _Saved:
    result: Result
    system: str
    patients: tuple[str, ...]
    studies: tuple[str, ...]
    rows: dict[str, SufficientStats]

    @property
    def title(self) -> str:
        own = self.system == self.result.name
        return self.system if own else f"{self.system} of {self.result.name}"


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
        first: folder of a scored generation task.
        second: another, or the same, to compare with one of its baselines.
        first_system: a system of the first result; its run by default.
        second_system: the same of the second.
        samples: bootstrap resamples, and random swaps.
        seed: of both.

    Raises:
        EvalUsageError: no result, or no such system in it.
        EvalMismatchError: other studies, references or cleaning.
    """
    saved = _load(first, first_system), _load(second, second_system)
    ours, theirs = saved
    _refuse_mismatch(ours, theirs)
    keys = _comparable(ours, theirs)
    names = ours.title, theirs.title
    if names[0] == names[1]:
        names = f"{names[0]} (1)", f"{names[1]} (2)"
    return RunComparison(
        first=names[0],
        second=names[1],
        studies=len(ours.studies),
        patients=len(set(ours.patients)),
        samples=samples,
        seed=seed,
        differences=_differences(ours, theirs, keys, samples=samples, seed=seed),
        not_compared=sorted((ours.rows.keys() | theirs.rows.keys()) - set(keys)),
    )


def as_markdown(comparison: RunComparison) -> str:
    """The comparison as a table with its convention."""
    rows = [
        [
            f"{d.measure}{Direction(d.direction).arrow}",
            _number(d.first),
            _number(d.second),
            f"{_number(d.difference, '+')} [{_number(d.low, '+')}, {_number(d.high, '+')}]",
            _p(d.p),
            _p(d.p_holm),
            {"first": comparison.first, "second": comparison.second}.get(d.better, ""),
        ]
        for d in comparison.differences
    ]
    runs = comparison.first, comparison.second
    header = ["measure", *map(plain, runs), "difference", "p", "p (Holm)", "better"]
    family = sum(d.p_holm is not None for d in comparison.differences)
    text = (
        f"n = {comparison.studies} studies of {comparison.patients} patients; 95 % percentile "
        "interval of the difference and two-sided paired approximate randomisation, patients "
        f"resampled and swapped whole, {comparison.samples} draws, seed {comparison.seed}; Holm "
        f"over the {family} measures with a direction.\n\n{markdown_table(header, rows)}"
    )
    if others := ", ".join(comparison.not_compared):
        text += f"\n\nNot compared (another version, or in one run only): {others}"
    return text


def _load(folder: Path, system: str) -> _Saved:
    result = read_result(folder)
    if result.task != "generation":
        raise EvalUsageError(f"{folder} is a {result.task} result: only generation is compared")
    system = system or result.name
    if system not in result.systems():
        known = ", ".join(result.systems())
        raise EvalUsageError(f"{folder} has no system {system!r}: choose from {known}")
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
    return _Saved(result, system, patients, studies, rows)


def _refuse_mismatch(ours: _Saved, theirs: _Saved) -> None:
    first, second = ours.result, theirs.result
    if first.dataset["fingerprint"] != second.dataset["fingerprint"]:
        apart = len(set(ours.studies) ^ set(theirs.studies))
        why = f"{apart} studies are in one only" if apart else "their reference texts differ"
        raise EvalMismatchError(
            f"{first.name} and {second.name} were scored on different studies "
            f"({len(ours.studies)} and {len(theirs.studies)}; {why}): score both on the same "
            "references, split and scope"
        )
    if first.settings["cleaning"] != second.settings["cleaning"]:
        raise EvalMismatchError(
            f"{first.name} was scored with cleaning {first.settings['cleaning']}, {second.name} "
            f"with {second.settings['cleaning']}: score both with one"
        )


def _comparable(ours: _Saved, theirs: _Saved) -> list[str]:
    """Keys of the metrics that were scored alike in both."""
    first, second = (
        {card["key"]: (card["version"], card["words"]) for card in saved.result.cards}
        for saved in (ours, theirs)
    )
    keys = [key for key in ours.rows if key in theirs.rows and first.get(key) == second.get(key)]
    if not keys:
        raise EvalMismatchError("no metric was scored alike in both: score again")
    return keys


def _differences(
    ours: _Saved, theirs: _Saved, keys: list[str], *, samples: int, seed: int
) -> list[MetricDifference]:
    patients = ours.patients
    metrics = {key: metric_class(key).measures for key in keys}
    statistics = [
        [summed_statistic(metrics[key], saved.rows[key], patients) for key in keys]
        for saved in (ours, theirs)
    ]
    one, two = (estimates(each, len(patients)) for each in statistics)
    drawn = [bootstrap(each, patients, samples=samples, seed=seed) for each in statistics]
    ends = intervals(drawn[1] - drawn[0])
    p_values = np.concatenate(
        [
            randomisation_test(
                ours.rows[key], theirs.rows[key], patients, found, samples=samples, seed=seed
            )
            for key, found in metrics.items()
        ]
    )
    measures = [measure for found in metrics.values() for measure in found]
    # a measure without a good end has no winner, so it is no hypothesis of the family
    aimless = [measure.direction is Direction.NONE for measure in measures]
    adjusted = holm(np.where(aimless, np.nan, p_values).tolist())
    columns = (one, two, two - one, *ends.T, p_values, np.array(adjusted))
    differences = []
    for measure, *row in zip(measures, *columns, strict=True):
        first, second, difference, low, high, p, p_holm = map(finite, row)
        name, way, better = measure.name, measure.direction, ""
        if difference and p_holm is not None and p_holm < 0.05:
            better = "second" if (difference > 0) == (way is Direction.HIGHER) else "first"
        differences.append(
            MetricDifference(
                name, way.value, first, second, difference, low, high, p, p_holm, better
            )
        )
    return differences


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
