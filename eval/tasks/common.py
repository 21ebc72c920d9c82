"""What the tasks on vectors share: numbers with intervals from a function of weights, and facts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metrics.base import Card, Direction
from eval.results import MetricValue, Result, command, file_facts, finite, made_by, now
from eval.stats import LEVEL, intervals, resample_weights
from eval.vectors import Vectors

SAMPLES = 2_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """Several measures that are one function of the weights of studies.

    Attributes:
        names: of the measures, [M].
        directions: which end of each is good, [M].
        counts: studies each rests on, [M].
        values: float64 [B, N] weights -> float64 [B, M].
    """

    names: tuple[str, ...]
    directions: tuple[Direction, ...]
    counts: tuple[int, ...]
    values: Callable[[Floats], Floats]


def mean_figure(columns: dict[str, tuple[Direction, Floats]]) -> Figure:
    """Means of values of studies; a NaN does not count."""
    table = np.stack([values for _, values in columns.values()], axis=1)
    defined = ~np.isnan(table)
    filled = np.where(defined, table, 0.0)

    def values(weights: Floats) -> Floats:
        below = weights @ defined
        return np.asarray(weights @ filled / np.where(below == 0, np.nan, below))

    return Figure(
        names=tuple(columns),
        directions=tuple(direction for direction, _ in columns.values()),
        counts=tuple(int(count) for count in defined.sum(axis=0)),
        values=values,
    )


def numbers_of(
    figure: Figure, *, system: str, subset: str, patients: Sequence[str], samples: int, seed: int
) -> list[MetricValue]:
    """The measures with percentile intervals over resampled patients."""
    drawn = [figure.values(w) for w in resample_weights(patients, samples=samples, seed=seed)]
    found = figure.values(np.ones((1, len(patients))))[0]
    ends = intervals(np.concatenate(drawn))
    return [
        MetricValue(system, subset, name, finite(v), finite(e.low), finite(e.high), n, d.value)
        for name, d, n, v, e in zip(
            figure.names, figure.directions, figure.counts, found, ends, strict=True
        )
    ]


def numbers_of_systems(
    systems: Mapping[str, Sequence[Figure]],
    *,
    patients: Sequence[str],
    samples: int,
    seed: int,
    subset: str = "all",
) -> list[MetricValue]:
    """The same of several systems, resampled alike."""
    facts: dict[str, Any] = {"patients": patients, "samples": samples, "seed": seed}
    return [
        number
        for system, figures in systems.items()
        for figure in figures
        for number in numbers_of(figure, system=system, subset=subset, **facts)
    ]


def vector_result(
    task: str,
    vectors: Vectors,
    *,
    path: Path,
    numbers: list[MetricValue],
    cards: list[dict[str, Any]],
    settings: dict[str, Any],
    curves: dict[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Result:
    """A result of a task on vectors, with who made it and of what."""
    return Result(
        task=task,
        name=vectors.encoder_id,
        created=now(),
        made_by=made_by(),
        command=command(),
        models={"encoder_id": [vectors.encoder_id]},
        dataset={
            "vectors": file_facts(path),
            "fingerprint": vectors.fingerprint,
            "studies": len(vectors),
            "patients": len(set(vectors.patient_ids)),
        },
        settings={"level": LEVEL, **settings},
        cards=cards,
        numbers=numbers,
        curves=curves or {},
        notes=list(notes),
    )


def card(
    title: str, measures: Sequence[str], *, formula: str, convention: str, source: str
) -> dict[str, Any]:
    """The card of a task's measures, as results keep it."""
    about = Card(title, formula, words="none", convention=convention, source=source)
    return {"key": title, "version": "1", "measures": list(measures)} | asdict(about)
