"""The folder of a result: result.json with every number and its provenance, scores and texts.

A folder is built beside and renamed, so that there is a complete result or none.
"""

import hashlib
import json
import math
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eval.errors import EvalDataError, EvalMismatchError, EvalUsageError
from eval.metrics.base import MetricGroup

SCHEMA = "cxr-rag-eval/1"
"""Name and version of result.json; the number grows when the format changes incompatibly."""

RESULT, SCORES, STUDIES, STATISTICS = "result.json", "scores.jsonl", "studies.jsonl", "stats.npz"
_PACKAGES = ("cxr-rag", "numpy", "scipy", "scikit-learn", "sacrebleu", "rouge-score", "torch")


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One number of a table.

    Attributes:
        system: the run, or a trivial baseline.
        subset: "all", "normal", ...
        measure: its printed name.
        value, low, high: None where undefined; low and high are the 95 % interval.
        n: studies it rests on.
        direction: which end is good, in words.
    """

    system: str
    subset: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    direction: str


@dataclass(frozen=True, slots=True)
class Result:
    """One evaluation.

    Attributes:
        task: "generation", "zero-shot", "linear-probe", "retrieval" or "embedding".
        name: of the run, as printed.
        created: ISO 8601 in UTC.
        made_by: software that computed the numbers: versions and git hash.
        command: that gave this result.
        models: what drafted or embedded: model ids, prompt and hash, as far as known.
        dataset: files with hashes, fingerprint of the study set, counts.
        settings: seed, resamples, level, scope, cleaning.
        cards: of each metric: key, version and card.
        not_available: measures that did not run, and what to put where.
        numbers: every number.
        curves: what plots show: plain JSON, by name.
        notes: what the reader should know.
    """

    task: str
    name: str
    created: str
    made_by: dict[str, Any]
    command: str
    models: dict[str, list[str]]
    dataset: dict[str, Any]
    settings: dict[str, Any]
    cards: list[dict[str, Any]]
    numbers: list[MetricValue]
    not_available: dict[str, str] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    schema: str = SCHEMA

    def systems(self) -> list[str]:
        """Systems in table order: the run first."""
        return list(dict.fromkeys(number.system for number in self.numbers))

    def subsets(self) -> list[str]:
        """Subsets in table order."""
        return list(dict.fromkeys(number.subset for number in self.numbers))

    def measures(self) -> list[str]:
        """Measures in table order."""
        return list(dict.fromkeys(number.measure for number in self.numbers))

    def number(self, *, system: str, subset: str, measure: str) -> MetricValue | None:
        """One number, if there is one."""
        wanted = (system, subset, measure)
        return next((n for n in self.numbers if (n.system, n.subset, n.measure) == wanted), None)


def made_by() -> dict[str, Any]:
    """Versions of the software, and the commit if this is a checkout."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "packages": packages, "git": _git_hash()}


def now() -> str:
    """This moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def command() -> str:
    """The command line, as one could type it again."""
    return shlex.join(["cxr-rag", *sys.argv[1:]])


def file_facts(path: Path | None) -> dict[str, str] | None:
    """Name and SHA-256 of a file; without its folder."""
    if path is None:
        return None
    with path.open("rb") as file:
        return {"name": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def card_facts(metric: MetricGroup) -> dict[str, Any]:
    """Card of a metric, with the names of its measures and its version."""
    names = [measure.name for measure in metric.measures]
    return {"key": metric.key, "version": metric.version, "measures": names} | asdict(metric.card)


def finite(value: float) -> float | None:
    """A float for JSON: None for NaN and infinities."""
    return float(value) if math.isfinite(value) else None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it takes its name when all is written, in place of an older result.

    Raises:
        EvalUsageError: something that is no result of ours stands there.
    """
    if path.exists() and not (path / RESULT).is_file() and (path.is_file() or any(path.iterdir())):
        raise EvalUsageError(f"{path} is there and is no evaluation: choose another --out")
    path = path.absolute()
    beside, old = (path.with_name(f".{path.name}.{word}") for word in ("new", "old"))
    try:
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        if path.exists():
            path.rename(old)
        beside.rename(path)
    except OSError as error:
        raise EvalDataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_result(folder: Path, result: Result) -> None:
    """Write result.json."""
    text = json.dumps(asdict(result), ensure_ascii=False, indent=1, allow_nan=False)
    (folder / RESULT).write_text(text + "\n", encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write objects, one per line."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Objects of a file that `write_jsonl` wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_result(folder: Path) -> Result:
    """A result from its folder.

    Raises:
        EvalUsageError: there is none.
        EvalDataError: it is damaged, or of another version of the schema.
    """
    path = folder / RESULT
    if not path.is_file():
        raise EvalUsageError(f"{folder} holds no evaluation (no {RESULT})")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        schema = values.get("schema")
        if schema != SCHEMA:
            raise EvalDataError(f"{path} has schema {schema!r}, not {SCHEMA!r}: score again")
        known = {f.name for f in fields(Result)}
        values["numbers"] = [MetricValue(**number) for number in values["numbers"]]
        return Result(**{name: value for name, value in values.items() if name in known})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EvalDataError(f"{path} is damaged ({error}): score again") from error


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A result, the scores of each study, and their texts (empty where they are not wanted)."""

    result: Result
    scores: list[dict[str, Any]]
    studies: list[dict[str, Any]]


def load_run(folder: Path, *, with_text: bool) -> SavedRun:
    """Read a result's folder.

    Raises:
        EvalUsageError: it holds no result.
        EvalDataError: it is damaged.
    """
    result = read_result(folder)
    try:
        scores = read_jsonl(folder / SCORES) if (folder / SCORES).exists() else []
        there = with_text and (folder / STUDIES).exists()
        return SavedRun(result, scores, read_jsonl(folder / STUDIES) if there else [])
    except (ValueError, OSError) as error:
        raise EvalDataError(f"{folder} is damaged ({error}): score again") from error


def refuse_mismatch(results: Sequence[Result]) -> None:
    """Runs on different studies do not stand side by side.

    Raises:
        EvalMismatchError: names the runs.
    """
    prints = {result.dataset["fingerprint"] for result in results}
    if len(prints) > 1:
        named = ", ".join(f"{r.name} ({r.dataset['studies']} studies)" for r in results)
        raise EvalMismatchError(f"these runs were scored on different studies: {named}")


def _git_hash() -> str | None:
    """Commit of the checkout this file lies in, with a + if it was changed; None elsewhere."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", *words],  # noqa: S607 - the user's own git
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
