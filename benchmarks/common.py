"""Shared by the benchmarks: bootstrap intervals, phantom studies, a batch in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.phantom import PhantomFinding, write_phantom_dicom
from rag.batch.inputs import BatchStudy
from rag.batch.output import open_output
from rag.batch.runner import Counts, run_batch
from rag.batch.workers import Engine, threaded_prepare
from rag.pipeline import ReportPipeline


def interval(statistic: Callable[..., Any], *samples: NDArray[Any], digits: int = 2) -> str:
    """A statistic of paired samples with its 95 % bootstrap interval (2 000 resamples, seed 0)."""
    rng, n = np.random.default_rng(0), len(samples[0])
    resamples = (rng.integers(0, n, n) for _ in range(2000))
    values = [statistic(*(sample[rows] for sample in samples)) for rows in resamples]
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{statistic(*samples):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def p95(values: NDArray[Any]) -> Any:
    """95th percentile."""
    return np.percentile(values, 95)


def phantoms(folder: Path, count: int) -> list[BatchStudy]:
    """Studies of one phantom each, 1024 x 1024 pixels."""
    findings, studies = list(PhantomFinding), []
    for seed in range(count):
        path = folder / f"{seed}.dcm"
        write_phantom_dicom(path, seed=seed, finding=findings[seed % len(findings)])
        studies.append(BatchStudy(study_id=str(seed), source=path, name=str(seed)))
    return studies


def run_studies(
    studies: Sequence[BatchStudy], pipeline: ReportPipeline, out: Path, *, concurrency: int
) -> Counts:
    """Run a batch as `cxr-rag batch` does."""
    with open_output(out) as output:
        prepare = threaded_prepare(pipeline, threads=2)
        return run_batch(studies, Engine(pipeline, prepare, concurrency, 300), output)
