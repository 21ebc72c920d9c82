"""Ablation of training settings, such as whether expert annotations help.

``python -m experiments.ablation --config configs/train/arms.toml --out runs/arms``

An arm is a set of changes to shared settings. All arms train on the same images, with the expert
images as ordinary pairs where their annotations are not used. The seed sets initial weights, image
order and all sampling. Finished runs are rows of a CSV file; an interrupted ablation resumes.
"""

import argparse
import csv
import io
import logging
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from encoders.packaged_weights import EncoderError
from encoders.training.config import TrainSettings
from encoders.training.dataset import Dataset, TrainingDataError
from encoders.training.run_folder import CHECKPOINT
from encoders.training.sources.load import data_folder, default_source, load_dataset
from encoders.training.train import MODEL_FOLDER, train
from eval.errors import EvalDataError, EvalUsageError
from experiments.ablation_table import Benchmark, as_markdown, summarise
from rag.atomic_io import write_text_atomic

_log = logging.getLogger(__name__)

RESULTS = "arms.csv"
RUNS = "runs"


class Arm(BaseModel):
    """One arm of the ablation.

    Attributes:
        seeds: number of runs.
        after: the arm whose trained model of the same seed this one starts from.
        settings: of its runs, the shared ones with the arm's changes; the seed is set by run.
    """

    name: str
    seeds: int
    after: str = ""
    settings: TrainSettings


class AblationPlan(BaseModel):
    """The arms; ``studies`` limits the number of training studies (0: all)."""

    arms: tuple[Arm, ...]
    baseline: str
    studies: int = 0


def read_plan(path: Path) -> AblationPlan:
    """Read a plan from TOML: ``[shared]`` settings, and ``[[arm]]`` tables with changes to them.

    Raises:
        TrainingDataError: the file cannot be read, a key is unknown or out of range, or the arms
            do not fit each other.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        arms = [
            {key: row.pop(key) for key in ("name", "seeds", "after") if key in row}
            | {"settings": _merged(content["shared"], row)}
            for row in content["arm"]
        ]
        plan = AblationPlan.model_validate({**content, "arms": arms})
    except (OSError, tomllib.TOMLDecodeError, ValidationError, KeyError) as error:
        raise TrainingDataError(f"cannot use {path}: {error!r}") from error
    trained = set()
    for arm, seed in schedule(plan):
        if arm.settings.data != plan.arms[0].settings.data:
            raise TrainingDataError(
                f"{path}: arm {arm.name!r} has data of its own: all arms learn from the same, so "
                "write it under [shared]"
            )
        if arm.after and (arm.after, seed) not in trained:
            raise TrainingDataError(
                f"{path}: seed {seed} of {arm.name!r} starts from {arm.after!r}, which is not "
                "trained before it: list that arm first, with at least as many seeds"
            )
        if (arm.name, seed) in trained:
            raise TrainingDataError(f"{path}: two arms have the name {arm.name!r}")
        trained.add((arm.name, seed))
    if (plan.baseline, 0) not in trained:
        raise TrainingDataError(f"{path}: there is no arm {plan.baseline!r} to compare with")
    return plan


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with changes; nested tables are merged key by key."""
    merged = dict(base)
    for key, value in changes.items():
        base_value = merged.get(key)
        merged[key] = _merged(base_value, value) if isinstance(base_value, dict) else value
    return merged


def schedule(plan: AblationPlan) -> Iterator[tuple[Arm, int]]:
    """All runs: arms with most seeds first, seed by seed, so that an interruption leaves pairs."""
    for count in sorted({arm.seeds for arm in plan.arms}, reverse=True):
        for seed in range(count):
            for arm in plan.arms:
                if arm.seeds == count:
                    yield arm, seed


def run_plan(plan: AblationPlan, *, dataset: Dataset, out: Path, cache: Path) -> None:
    """Do every unfinished run; results and table are written after each.

    Raises:
        TrainingDataError: the data or a run folder cannot be used.
    """
    benchmark: Benchmark | None = None
    finished = {(row["arm"], int(row["seed"])) for row in read_results(out / RESULTS)}
    for arm, seed in schedule(plan):
        if (arm.name, seed) in finished:
            continue
        started = time.monotonic()
        folder = _folder(out, arm.name, seed)
        settings = arm.settings.model_copy(update={"seed": seed})
        if arm.after:
            start = _folder(out, arm.after, seed) / MODEL_FOLDER
            model = settings.model.model_copy(update={"start_from": start})
            settings = settings.model_copy(update={"model": model})
        model_folder = train(settings, dataset=dataset, out=folder, cache=cache)
        seconds = time.monotonic() - started
        benchmark = benchmark or Benchmark(dataset, settings=settings, cache=cache)
        measures = benchmark.score(model_folder)
        _append(out / RESULTS, {"arm": arm.name, "seed": seed, "seconds": seconds, **measures})
        (folder / CHECKPOINT).unlink(missing_ok=True)  # three times the size of the model
        _log.info("%s, seed %d: %.0f s", arm.name, seed, seconds)
        cells = summarise(read_results(out / RESULTS), baseline=plan.baseline)
        table = as_markdown(cells, baseline=plan.baseline)
        (out / "table.md").write_text(table, encoding="utf-8")


def _folder(out: Path, name: str, seed: int) -> Path:
    return out / RUNS / f"{name.replace(' ', '-')}-{seed}"


def read_results(path: Path) -> list[dict[str, str]]:
    """Rows of the finished runs."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _append(path: Path, row: dict[str, Any]) -> None:
    formatted = {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()}
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(formatted))
    writer.writeheader()
    writer.writerows([*read_results(path), formatted])
    write_text_atomic(path, text.getvalue())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or resume a plan; exit status 0, or 1 with a message."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ablation", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="plan, TOML")
    parser.add_argument(
        "--out", type=Path, required=True, help="results; pass an existing folder to resume"
    )
    parser.add_argument(
        "--data", type=Path, default=data_folder(), help="holds openi/ and nih_expert/"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        plan = read_plan(options.config)
        dataset = load_dataset(plan.arms[0].settings.data or default_source(options.data))
        if plan.studies:
            dataset = dataset.first(plan.studies)
        options.out.mkdir(parents=True, exist_ok=True)
        run_plan(plan, dataset=dataset, out=options.out, cache=options.out / "cache")
    except (TrainingDataError, EncoderError, EvalUsageError, EvalDataError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write((options.out / "table.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
