"""The folder of a run: who made it, with what, and its numbers as they come.

Owns run.json and metrics.csv. Knows nothing of models.
"""

import csv
import hashlib
import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

METRICS = "metrics.csv"
_PACKAGES = ("torch", "transformers", "accelerate", "safetensors", "numpy")


def fingerprint(*parts: Any) -> str:
    """First 12 digits of the sha256 of JSON-able parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_run(folder: Path, **facts: Any) -> None:
    """Write run.json: the facts given, the commit, the versions, the time of the (re)start."""
    folder.mkdir(parents=True, exist_ok=True)
    facts |= {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }
    (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


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


def trim_metrics(folder: Path, *, step: int) -> None:
    """Forget rows after a step: the steps since the last checkpoint are taken again."""
    path = folder / METRICS
    if path.exists():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if len(row) == 3]  # the last may be half
        kept = rows[:1] + [row for row in rows[1:] if int(row[0]) <= step]
        _write_rows(path, kept, mode="w")


def read_metrics(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each name, in the order of the file; a half line at its end is left out."""
    series: dict[str, list[tuple[int, float]]] = {}
    path = folder / METRICS
    if path.exists():
        with path.open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.reader(stream) if len(row) == 3]
        for step, name, value in rows[1:]:
            series.setdefault(name, []).append((int(step), float(value)))
    return series


def append_metrics(folder: Path, *, step: int, values: dict[str, float]) -> None:
    """One long-form row a value: step, name, value."""
    path = folder / METRICS
    if not path.exists():
        _write_rows(path, [["step", "name", "value"]], mode="w")
    _write_rows(path, [[step, name, f"{value:.6g}"] for name, value in values.items()], mode="a")


def _write_rows(path: Path, rows: list[list[Any]], *, mode: str) -> None:
    with path.open(mode, newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
