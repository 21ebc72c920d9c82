"""The folder of a run: run.json, metrics.csv, checkpoint.pt, and at the end curves.svg.

A run may be killed at any moment: files are replaced atomically, and on resuming, metrics of steps
after the last checkpoint are dropped. No random state is saved: it follows from seed and step.
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
_PLOT_COLUMNS = 3
_PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "numpy")


class RunFolder:
    """The files of one run; a checkpoint with another ``fingerprint`` is refused."""

    def __init__(self, path: Path, *, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint

    def start(self, **run_info: Any) -> None:
        """Write run.json: ``run_info`` with commit, versions and the time of the (re)start."""
        self.path.mkdir(parents=True, exist_ok=True)
        run_info |= {
            "fingerprint": self.fingerprint,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": current_commit() or "unknown",
            "python": platform.python_version(),
            "packages": {name: metadata.version(name) for name in _PACKAGES},
        }
        with self._replace("run.json") as partial:
            partial.write_text(json.dumps(run_info, indent=2) + "\n", encoding="utf-8")

    def save(self, step: int, parts: Mapping[str, Any]) -> None:
        """Write a checkpoint of ``parts`` (models, optimizers) after a step."""
        states = {name: part.state_dict() for name, part in parts.items()}
        with self._replace(CHECKPOINT) as partial, partial.open("wb") as stream:
            torch.save({"fingerprint": self.fingerprint, "step": step, **states}, stream)
            stream.flush()
            os.fsync(stream.fileno())

    @contextmanager
    def _replace(self, name: str) -> Iterator[Path]:
        """A temporary file to write, which is then renamed."""
        partial = self.path / f".{name}.{os.getpid()}"
        yield partial
        partial.replace(self.path / name)

    def load(self, parts: Mapping[str, Any]) -> int:
        """Restore the parts from the checkpoint; returns its step, 0 if there is none.

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

    def append_metrics(self, step: int, values: dict[str, float]) -> None:
        """Append one row per value: step, name, value."""
        path = self.path / METRICS
        header = [] if path.exists() else [["step", "name", "value"]]
        rows = [[step, name, f"{value:.6g}"] for name, value in values.items()]
        with path.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([*header, *rows])

    def trim_metrics(self, step: int) -> None:
        """Drop rows after the checkpoint's step: these steps are taken again."""
        if rows := self._metric_rows():
            kept = [row for row in rows[1:] if int(row[0]) <= step]
            with (
                self._replace(METRICS) as partial,
                partial.open("w", newline="", encoding="utf-8") as stream,
            ):
                csv.writer(stream).writerows([rows[0], *kept])

    def write_curves(self) -> None:
        """Plot each metric over the steps; without matplotlib, only log how to get it."""
        try:
            from matplotlib import rc_context  # noqa: PLC0415 - optional
            from matplotlib.figure import Figure  # noqa: PLC0415
        except ImportError:
            _log.info('no %s: it needs matplotlib (pip install "cxr-rag[plots]")', CURVES)
            return
        series: dict[str, list[tuple[int, float]]] = {}
        for step, name, value in self._metric_rows()[1:]:
            series.setdefault(name, []).append((int(step), float(value)))
        rows = -(-len(series) // _PLOT_COLUMNS)
        with rc_context({"svg.hashsalt": "curves"}):  # the same metrics give the same bytes
            figure = Figure(figsize=(4 * _PLOT_COLUMNS, 2.4 * rows), layout="constrained")
            panels = figure.subplots(rows, _PLOT_COLUMNS, squeeze=False, sharex=True).flat
            for (name, points), panel in zip(series.items(), panels, strict=False):
                panel.set_title(name)
                panel.plot(*zip(*points, strict=True), ".")
            for unused in panels:
                unused.set_axis_off()
            figure.savefig(self.path / CURVES, metadata={"Date": None})

    def _metric_rows(self) -> list[list[str]]:
        """Complete rows only: a killed run may leave half a row."""
        path = self.path / METRICS
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as stream:
            return [row for row in csv.reader(stream) if len(row) == 3]


def fingerprint(*parts: Any) -> str:
    """First 12 digits of the sha256 of JSON-able parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
