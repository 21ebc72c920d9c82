"""The folder of a run: run.json, metrics.csv, checkpoint.pt, and at the end curves.svg.

Safe against being killed at any moment: files are written beside and renamed, rows of metrics.csv
are appended, and what was computed after the last checkpoint is dropped. Everything random in a
step comes from its number and the seed, so no random state is saved.
"""

import csv
import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from encoders.checkout import current_commit
from encoders.training.dataset import TrainingDataError

_log = logging.getLogger(__name__)

CHECKPOINT, METRICS, CURVES = "checkpoint.pt", "metrics.csv", "curves.svg"
_COLUMNS = 3
_PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "numpy")


class RunFolder:
    """The files of one run; ``fingerprint`` is of settings and data, others' are refused."""

    def __init__(self, path: Path, *, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def start(self, **facts: Any) -> None:
        """Write run.json: the facts given, the commit, the versions, the time of the (re)start."""
        self.path.mkdir(parents=True, exist_ok=True)
        facts |= {
            "fingerprint": self.fingerprint,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": current_commit() or "unknown",
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in _PACKAGES},
        }
        with self._replaced("run.json") as beside:
            beside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    # --- checkpoints

    def save(self, step: int, parts: Mapping[str, Any]) -> None:
        """Write what ``parts`` (models, optimizers) hold after a step.

        There is always a whole checkpoint, the old or the new.
        """
        states = {name: part.state_dict() for name, part in parts.items()}
        with self._replaced(CHECKPOINT) as beside, beside.open("wb") as stream:
            torch.save({"fingerprint": self.fingerprint, "step": step, **states}, stream)
            stream.flush()
            os.fsync(stream.fileno())

    @contextmanager
    def _replaced(self, name: str) -> Iterator[Path]:
        """A file beside to write to; then it takes the name."""
        beside = self.path / f".{name}.{os.getpid()}"
        yield beside
        beside.replace(self.path / name)

    def load(self, parts: Mapping[str, Any]) -> int:
        """Return the parts to what was saved last; the step it was saved after, 0 for none.

        Raises:
            TrainingDataError: the folder belongs to a run with other settings or data.
        """
        path = self.path / CHECKPOINT
        if not path.exists():
            return 0
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            raise TrainingDataError(
                f"{path} was made with other settings or data ({state['fingerprint']}, now "
                f"{self.fingerprint}); choose another --out, or the settings in "
                f"{self.path / 'run.json'}"
            )
        for name, part in parts.items():
            part.load_state_dict(state[name])
        step: int = state["step"]
        return step

    # --- numbers

    def append_metrics(self, step: int, values: dict[str, float]) -> None:
        """One row a value: step, name, value."""
        path = self.path / METRICS
        header = [] if path.exists() else [["step", "name", "value"]]
        rows = [[step, name, f"{value:.6g}"] for name, value in values.items()]
        with path.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([*header, *rows])

    def trim_metrics(self, step: int) -> None:
        """Drop rows after a step: the steps since the last checkpoint are taken again."""
        if rows := self._metric_rows():
            kept = [row for row in rows[1:] if int(row[0]) <= step]
            with (
                self._replaced(METRICS) as beside,
                beside.open("w", newline="", encoding="utf-8") as stream,
            ):
                csv.writer(stream).writerows([rows[0], *kept])

    def write_curves(self) -> None:
        """Draw a panel for each number; without matplotlib, say so and go on."""
        try:
            from matplotlib import rc_context  # noqa: PLC0415 - optional
            from matplotlib.figure import Figure  # noqa: PLC0415
        except ImportError:
            _log.info('no %s: it needs matplotlib (pip install "cxr-rag[plots]")', CURVES)
            return
        series: dict[str, list[tuple[int, float]]] = {}
        for step, name, value in self._metric_rows()[1:]:
            series.setdefault(name, []).append((int(step), float(value)))
        rows = -(-len(series) // _COLUMNS)
        with rc_context({"svg.hashsalt": "curves"}):  # the same numbers give the same bytes
            figure = Figure(figsize=(4 * _COLUMNS, 2.4 * rows), layout="constrained")
            panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True).flat
            for (name, points), panel in zip(series.items(), panels, strict=False):
                panel.set_title(name)
                panel.plot(*zip(*points, strict=True), ".")
            for panel in panels:  # those that are left
                panel.set_axis_off()
            figure.savefig(self.path / CURVES, metadata={"Date": None})

    def _metric_rows(self) -> list[list[str]]:
        """Whole rows: the last may be half."""
        path = self.path / METRICS
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.reader(stream) if len(row) == 3]


def fingerprint(*parts: Any) -> str:
    """First 12 digits of the sha256 of JSON-able parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
