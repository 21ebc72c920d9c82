"""The folder a batch writes: its lock, what is done already, and the files beside the predictions.

    OUT/predictions.jsonl   one line a study, appended and flushed to the disk
    OUT/studies.jsonl       which images each study is made of; private (0600), for the user alone
    OUT/summary.json        counts, rate, stages, of the last run
    OUT/.lock               held while a batch runs

Does not know how predictions come about.
"""

import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from encoders.json_text import parse_strict
from encoders.tabular import read_table
from rag.atomic_io import disk_explained, flush, only_writer, replace_text
from rag.batch.inputs import BatchStudy
from rag.errors import UsageError
from rag.prediction import Prediction
from rag.schema import Status

PREDICTIONS, STUDIES, SUMMARY = "predictions.jsonl", "studies.jsonl", "summary.json"
_LOCK = ".lock"
MADE_WITH = ("encoder_id", "index_id", "llm", "prompt")
"""What all predictions of one file must have in common."""


@dataclass(slots=True)
class ExistingPredictions:
    """What a predictions file holds already.

    Attributes:
        statuses: of each study that has a line.
        errors: how often each error class failed a study.
        made_with: the values of `MADE_WITH` of its lines.
    """

    statuses: dict[str, Status] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    made_with: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> frozenset[str]:
        """Studies that failed."""
        return frozenset(name for name, status in self.statuses.items() if status is Status.FAILED)

    def add(self, study_id: str, status: Status, error: str) -> None:
        """Take a line into account."""
        self.statuses[study_id] = status
        if status is Status.FAILED:
            self.errors[error] += 1


class BatchOutput:
    """The right to write a folder; leaving the block gives it back.

    Entering raises `OutputError` where it cannot be written, `UsageError` where another batch is
    writing it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.predictions = folder / PREDICTIONS
        self._locked = ExitStack()

    def __enter__(self) -> "BatchOutput":
        with disk_explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._locked.enter_context(only_writer(self.folder / _LOCK, in_use=UsageError))
        return self

    def __exit__(self, *_: object) -> None:
        self._locked.close()

    def read_existing(self) -> ExistingPredictions:
        """The predictions that are there. A torn last line is none: its study is done again.

        Raises:
            UsageError: a line is no prediction of a batch, or a study has two.
        """
        existing = ExistingPredictions()
        if not self.predictions.exists():
            return existing
        for where, values in _whole_lines(self.predictions):
            try:
                study_id, made_with = values["study_id"], {name: values[name] for name in MADE_WITH}
                status, error = Status(values["status"]), values["error"]
            except (KeyError, ValueError, TypeError) as wrong:
                raise _not_ours(self.predictions, where) from wrong
            if study_id in existing.statuses:
                raise UsageError(
                    f"{self.predictions} has two lines for the study {study_id!r}: choose another "
                    "output"
                )
            if existing.made_with and made_with != existing.made_with:
                raise _not_ours(self.predictions, where)
            existing.made_with = made_with
            existing.add(study_id, status, error)
        return existing

    def forget_failures(self, existing: ExistingPredictions) -> int:
        """Take failed studies out of the file, in one step, so that they are done again."""
        failed = existing.failed
        if not failed:
            return 0
        beside = self.predictions.with_name(f".{PREDICTIONS}.new")
        with disk_explained(self.predictions):
            with self.predictions.open("rb") as old, beside.open("wb") as new:
                for line in old:
                    if line.endswith(b"\n") and json.loads(line)["study_id"] not in failed:
                        new.write(line)
                new.flush()
                os.fsync(new.fileno())
            beside.replace(self.predictions)
            flush(self.folder)
        for study_id in failed:
            del existing.statuses[study_id]
        existing.errors.clear()
        return len(failed)

    def write_studies(self, studies: Iterable[BatchStudy]) -> None:
        """Write down which images each study is made of. Paths may name people: 0600."""
        lines = (json.dumps(_study_json(study), ensure_ascii=False) + "\n" for study in studies)
        text = "".join(lines).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        replace_text(self.folder / STUDIES, text, mode=0o600)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the summary of this run."""
        replace_text(self.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")


def _whole_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and content of each line; a torn last one is passed over."""
    with disk_explained(path), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        torn = file.read(1) != b"\n"
    problem: UsageError | None = None
    for line in read_table(path, strict=True):
        if problem:
            raise problem
        if line.problem:
            problem = UsageError(f"{path} {line.where}: {line.problem}: choose another output")
        else:
            yield line.where, line.values
    if problem and not torn:
        raise problem


def _not_ours(path: Path, where: str) -> UsageError:
    return UsageError(
        f"{path} {where} is not of this batch: it has other keys, or was made with another "
        "encoder, index, model or prompt. Choose another output"
    )


def _study_json(study: BatchStudy) -> dict[str, Any]:
    return {
        "study_id": study.study_id,
        "image": str(study.image),
        "further": [str(path) for path in study.further],
        "unused": [str(path) for path in study.unused],
        "rejected": [str(path) for path in study.rejected],
        "prior": [str(path) for path in study.prior.files],
    }


class PredictionLog:
    """Appends predictions to a file; after a crash a line is whole or absent.

    Opening cuts off a torn last line: its study was being written when the plug was pulled. A disk
    that is full leaves no half line either.

    Raises:
        OutputError: the file cannot be opened or written; the message says the hint.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: io.FileIO | None = None

    def __enter__(self) -> "PredictionLog":
        with disk_explained(self._path):
            new = not self._path.exists()
            # unbuffered: what a full disk did not take must not be tried again at the end
            self._file = io.FileIO(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
            _mend_end(self._file)
            if new:
                flush(self._path.parent)
        return self

    def append(self, prediction: Prediction) -> None:
        """Write one line and wait until it is on the disk."""
        if self._file is None:
            raise ValueError("open the log with `with` first")
        line = memoryview(prediction_line(prediction).encode("utf-8"))
        with disk_explained(self._path):
            end = self._file.seek(0, os.SEEK_END)
            try:
                while line:
                    line = line[self._file.write(line) :]
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(end)
                raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def prediction_line(prediction: Prediction) -> str:
    """One line with its newline. NaN and infinities are a ValueError: no JSON holds them."""
    return json.dumps(prediction.to_json(), ensure_ascii=False, allow_nan=False) + "\n"


def _mend_end(file: io.FileIO) -> None:
    """Make the file end with a newline: close a whole last line, cut a torn one."""
    end = file.seek(0, os.SEEK_END)
    last = b""
    while end and b"\n" not in last:
        start = max(end - 65_536, 0)
        file.seek(start)
        last = file.read(end - start) + last
        end = start
    _, _, last = last.rpartition(b"\n")
    if not last:
        return
    try:
        parse_strict(last.decode("utf-8"))
    except ValueError:
        file.truncate(file.seek(-len(last), os.SEEK_END))
    else:
        file.write(b"\n")
