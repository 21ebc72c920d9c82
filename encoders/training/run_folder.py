"""The folder of a run: who made it and with what, its numbers as they come, its checkpoints.

Owns run.json, metrics.csv, checkpoint.pt and best.pt, all safe against being killed at any moment:
a file is written beside and renamed, and what was computed after the last checkpoint is dropped.
Everything random in a step comes from its number and the seed, so no random state is saved.
"""

import csv
import hashlib
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from encoders.training.dataset import TrainingDataError

CHECKPOINT, BEST, METRICS = "checkpoint.pt", "best.pt", "metrics.csv"
_PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "numpy")


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; made by `start`.
        fingerprint: of settings and data; checkpoints of others are refused.
    """

    def __init__(self, path: Path, *, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def start(self, **facts: Any) -> None:
        """Write run.json: the facts given, the commit, the versions, the time of the (re)start."""
        self.path.mkdir(parents=True, exist_ok=True)
        facts |= {
            "fingerprint": self.fingerprint,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": git_commit(),
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in _PACKAGES},
        }
        text = json.dumps(facts, indent=2) + "\n"
        (self.path / "run.json").write_text(text, encoding="utf-8")

    # --- checkpoints

    def save(self, state: dict[str, Any], *, name: str = CHECKPOINT) -> None:
        """Write a checkpoint; there is always a whole one, the old or the new."""
        beside = self.path / f".{name}.{os.getpid()}"
        with beside.open("wb") as stream:
            torch.save({"fingerprint": self.fingerprint, **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(self.path / name)

    def load(self, *, name: str = CHECKPOINT) -> dict[str, Any] | None:
        """The state that was saved last, or None.

        Raises:
            TrainingDataError: the folder belongs to a run with other settings or data.
        """
        path = self.path / name
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            raise TrainingDataError(
                f"{path} was made with other settings or data ({state['fingerprint']}, now "
                f"{self.fingerprint}); choose another --out, or the settings in "
                f"{self.path / 'run.json'}"
            )
        return state

    def keep_if_best(self, model: nn.Module, *, score: float) -> None:
        """Save the model if none of this run was better.

        A run that was cut validates the same models again, so nothing has to be undone.
        """
        best = self.load(name=BEST)
        if best is None or score > best["score"]:
            self.save({"score": score, "model": model.state_dict()}, name=BEST)

    def load_best(self, model: nn.Module) -> None:
        """Fill a model with the best weights of the run, in place.

        Raises:
            TrainingDataError: they are gone.
        """
        best = self.load(name=BEST)
        if best is None:
            raise TrainingDataError(
                f"{self.path / BEST} is missing: the run was validated, but its best model is "
                "gone; train again, or set keep to last"
            )
        model.load_state_dict(best["model"])

    # --- numbers

    def append_metrics(self, step: int, values: dict[str, float]) -> None:
        """One row a value: step, name, value."""
        path = self.path / METRICS
        if not path.exists():
            self._write_metrics([["step", "name", "value"]], mode="w")
        self._write_metrics([[step, name, f"{v:.6g}"] for name, v in values.items()], mode="a")

    def trim_metrics(self, step: int) -> None:
        """Drop rows after a step: the steps since the last checkpoint are taken again."""
        rows = self._metric_rows()
        if rows:
            self._write_metrics(
                rows[:1] + [row for row in rows[1:] if int(row[0]) <= step], mode="w"
            )

    def read_metrics(self) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of each name, in the order of the file."""
        series: dict[str, list[tuple[int, float]]] = {}
        for step, name, value in self._metric_rows()[1:]:
            series.setdefault(name, []).append((int(step), float(value)))
        return series

    def _metric_rows(self) -> list[list[str]]:
        """Whole rows: the last may be half."""
        path = self.path / METRICS
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.reader(stream) if len(row) == 3]

    def _write_metrics(self, rows: list[list[Any]], *, mode: str) -> None:
        with (self.path / METRICS).open(mode, newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)


def fingerprint(*parts: Any) -> str:
    """First 12 digits of the sha256 of JSON-able parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def git_commit() -> str:
    """Commit of the checkout that this file is in, with ``+changes`` if it is not clean."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
