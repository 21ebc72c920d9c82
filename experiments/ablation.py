"""The question whether expert annotations help, asked fairly: all arms from one start.

``python -m experiments.ablation --config configs/train/arms.toml --out runs/arms``

An arm is a set of changes to shared settings; all arms see the same images, the expert images as
plain pairs included, so that only what is done with the annotations differs. The seed sets the
starting weights, the order of images and every draw. A run that was cut resumes; a finished one is
a line of a CSV file and not done again.
"""

import argparse
import csv
import io
import logging
import os
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
from encoders.training.sources.load import default_source, load_dataset
from encoders.training.train import MODEL_FOLDER, train
from eval.errors import EvalDataError, EvalUsageError
from experiments.ablation_table import Benchmark, as_markdown, summarise
from rag.atomic_io import write_text_atomic

_log = logging.getLogger(__name__)

RESULTS = "arms.csv"
RUNS = "runs"


class Arm(BaseModel):
    """One arm of the table.

    Attributes:
        seeds: how many.
        after: the arm whose trained model of the same seed it starts from.
        settings: of its runs, without the seed: the shared ones, with what the arm changes.
    """

    name: str
    seeds: int
    after: str = ""
    settings: TrainSettings


class AblationPlan(BaseModel):
    """All arms; ``studies`` limits the training studies (0 is all)."""

    arms: tuple[Arm, ...]
    baseline: str
    studies: int = 0


def read_plan(path: Path) -> AblationPlan:
    """The plan of a TOML file: ``[shared]`` settings, and ``[[arm]]`` with what differs.

    Raises:
        TrainingDataError: the file cannot be read, a key is unknown or out of range, or the arms
            cannot be trained as they are.
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
    """Nested tables are merged key by key, all else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) else value
    return merged


def schedule(plan: AblationPlan) -> Iterator[tuple[Arm, int]]:
    """(arm, seed): the arms with most seeds first, seed by seed, so that a cut leaves pairs."""
    for count in sorted({arm.seeds for arm in plan.arms}, reverse=True):
        for seed in range(count):
            for arm in plan.arms:
                if arm.seeds == count:
                    yield arm, seed


def run_plan(plan: AblationPlan, *, dataset: Dataset, out: Path, cache: Path) -> None:
    """Do every run that has no line yet; the table is written after each.

    Raises:
        TrainingDataError: the data or a run folder cannot be used.
    """
    benchmark: Benchmark | None = None
    for arm, seed in schedule(plan):
        done = {(row["arm"], int(row["seed"])) for row in read_results(out / RESULTS)}
        if (arm.name, seed) in done:
            continue
        began = time.monotonic()
        folder = _folder(out, arm.name, seed)
        settings = arm.settings.model_copy(update={"seed": seed})
        if arm.after:
            start = _folder(out, arm.after, seed) / MODEL_FOLDER
            model = settings.model.model_copy(update={"start_from": start})
            settings = settings.model_copy(update={"model": model})
        model_folder = train(settings, dataset=dataset, out=folder, cache=cache)
        seconds = time.monotonic() - began
        benchmark = benchmark or Benchmark(dataset, settings=settings, cache=cache)
        measures = benchmark.score(model_folder)
        _append(out / RESULTS, {"arm": arm.name, "seed": seed, "seconds": seconds, **measures})
        (folder / CHECKPOINT).unlink(missing_ok=True)  # 3 copies of what `model` holds
        _log.info("%s, seed %d: %.0f s", arm.name, seed, seconds)
        cells = summarise(read_results(out / RESULTS), baseline=plan.baseline)
        table = as_markdown(cells, baseline=plan.baseline)
        (out / "table.md").write_text(table, encoding="utf-8")


def _folder(out: Path, name: str, seed: int) -> Path:
    return out / RUNS / f"{name.replace(' ', '-')}-{seed}"


def read_results(path: Path) -> list[dict[str, str]]:
    """The finished runs."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _append(path: Path, row: dict[str, Any]) -> None:
    shown = {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()}
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(shown))
    writer.writeheader()
    writer.writerows([*read_results(path), shown])
    write_text_atomic(path, text.getvalue())  # whole at any moment


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the plan, or resume it; 0 when all is done, 1 with a reason."""
    parser = argparse.ArgumentParser(prog="python -m experiments.ablation", description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data"))
    parser.add_argument("--config", type=Path, required=True, help="plan, TOML")
    parser.add_argument(
        "--out", type=Path, required=True, help="results; pass an existing folder to resume"
    )
    parser.add_argument("--data", type=Path, default=data, help="holds openi/ and nih_expert/")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        plan = read_plan(chosen.config)
        usual = default_source(chosen.data)
        dataset = load_dataset(plan.arms[0].settings.data or usual)
        if plan.studies:
            dataset = dataset.first(plan.studies)
        chosen.out.mkdir(parents=True, exist_ok=True)
        run_plan(plan, dataset=dataset, out=chosen.out, cache=chosen.out / "cache")
    except (TrainingDataError, EncoderError, EvalUsageError, EvalDataError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write((chosen.out / "table.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
