"""The folder a batch writes: predictions, what is done already, and the files beside them.

OUT/predictions.jsonl   one line per study, appended and synced to disk
OUT/studies.jsonl       the images of each study; private (0600), as paths may name people
OUT/summary.json        counts, rate and stages of the last run
OUT/.lock               held while a batch runs
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from encoders.json_text import parse_strict
from rag.atomic_io import exclusive_lock, explain_disk_errors, fsync_path, write_text_atomic
from rag.batch.inputs import BatchStudy
from rag.errors import UsageError
from rag.prediction import Prediction
from rag.schema import Status

PREDICTIONS, STUDIES, SUMMARY = "predictions.jsonl", "studies.jsonl", "summary.json"
_LOCK = ".lock"
_PROVENANCE_KEYS = ("encoder_id", "index_id", "llm", "prompt")
"""Equal in all predictions of one file; see `ReportPipeline.provenance`."""


class BatchOutput:
    """An output folder and the predictions already in it; see `open_output`.

    Attributes:
        predictions: path of ``predictions.jsonl``.
        statuses: by study id, of each line there.
        errors: failed studies by error class.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.predictions = folder / PREDICTIONS
        self.statuses: dict[str, Status] = {}
        self.errors: Counter[str] = Counter()
        self._provenance: dict[str, str] = {}
        if self.predictions.exists():
            with explain_disk_errors(self.predictions):
                self._read()

    def _read(self) -> None:
        """Read every line. A torn last line is cut off: its study is done again."""
        with self.predictions.open("r+b") as file:
            end = 0
            for number, line in enumerate(file, 1):
                complete = line.endswith(b"\n")
                try:
                    values = parse_strict(line.decode("utf-8"))
                except ValueError as error:
                    if complete:
                        raise self._foreign_line(number, str(error)) from error
                    file.truncate(end)
                    return
                self._add(number, values)
                if not complete:
                    file.seek(0, os.SEEK_END)
                    file.write(b"\n")
                end += len(line)

    def _add(self, number: int, values: Any) -> None:
        try:
            study_id, status, error = values["study_id"], Status(values["status"]), values["error"]
            provenance = {name: values[name] for name in _PROVENANCE_KEYS}
        except (KeyError, ValueError, TypeError) as wrong:
            raise self._foreign_line(number, "it has other keys") from wrong
        if study_id in self.statuses:
            raise self._foreign_line(number, f"the study {study_id!r} has an earlier line")
        if provenance != (self._provenance or provenance):
            raise self._foreign_line(
                number, "it was made with another encoder, index, model or prompt"
            )
        self._provenance = provenance
        self._count(study_id, status, error)

    def _foreign_line(self, number: int, why: str) -> UsageError:
        return UsageError(
            f"{self.predictions} line {number} is not of this batch ({why}): choose another output"
        )

    def _count(self, study_id: str, status: Status, error: str) -> None:
        self.statuses[study_id] = status
        if status is Status.FAILED:
            self.errors[error] += 1

    def check_provenance(self, provenance: Mapping[str, str]) -> None:
        """Refuse to mix predictions of two encoders, indexes, models or prompts in one file.

        Raises:
            UsageError: names what has changed.
        """
        changed = [
            f"{name} was {old!r} and is {provenance[name]!r}"
            for name, old in self._provenance.items()
            if provenance[name] != old
        ]
        if changed:
            raise UsageError(
                f"{self.predictions} was made with other settings ({'; '.join(changed)}): choose "
                "another output, or go back to those settings"
            )

    def append(self, prediction: Prediction) -> None:
        """Write one line; returns when it is on disk. After a crash it is complete or absent.

        Raises:
            OutputError: the file cannot be written; a full disk leaves no partial line.
        """
        line = memoryview(prediction_line(prediction).encode("utf-8"))
        # unbuffered: closing must not retry what a full disk refused
        with (
            explain_disk_errors(self.predictions),
            self.predictions.open("ab", buffering=0) as file,
        ):
            end = file.tell()
            try:
                while line:
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
            if not end:
                fsync_path(self.folder)
        self._count(prediction.study_id, prediction.status, prediction.error)

    def drop_failures(self) -> int:
        """Remove failed studies from the file, atomically, so that they are done again."""
        failed = {name for name, status in self.statuses.items() if status is Status.FAILED}
        if not failed:
            return 0
        new_file = self.predictions.with_name(f".{PREDICTIONS}.new")
        with explain_disk_errors(self.predictions):
            with self.predictions.open("rb") as old, new_file.open("wb") as new:
                new.writelines(line for line in old if json.loads(line)["study_id"] not in failed)
                new.flush()
                os.fsync(new.fileno())
            new_file.replace(self.predictions)
            fsync_path(self.folder)
        for study_id in failed:
            del self.statuses[study_id]
        self.errors.clear()
        return len(failed)

    def write_studies(self, studies: Iterable[BatchStudy]) -> None:
        """Record the images of each study. Paths may name people: 0600."""
        lines = (json.dumps(_study_json(study), ensure_ascii=False) + "\n" for study in studies)
        text = "".join(lines).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self._write(STUDIES, text, mode=0o600)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``."""
        self._write(SUMMARY, json.dumps(summary, indent=2) + "\n")

    def _write(self, name: str, text: str, *, mode: int = 0o644) -> None:
        with explain_disk_errors(self.folder / name):
            write_text_atomic(self.folder / name, text, mode=mode)


@contextmanager
def open_output(folder: Path) -> Iterator[BatchOutput]:
    """Open an output folder, created if missing, and hold its lock.

    Raises:
        OutputError: it cannot be written.
        UsageError: another batch is writing it, or its predictions are not those of one batch.
    """
    with explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / _LOCK, in_use=UsageError):
        yield BatchOutput(folder)


def prediction_line(prediction: Prediction) -> str:
    """One line with its newline; a ValueError for NaN and infinities, which JSON lacks."""
    return json.dumps(prediction.to_json(), ensure_ascii=False, allow_nan=False) + "\n"


def _study_json(study: BatchStudy) -> dict[str, Any]:
    return {
        "study_id": study.study_id,
        "image": str(study.source),
        "further": [str(path) for path in study.other_views],
        "unused": [str(path) for path in study.unused],
        "rejected": [str(path) for path in study.rejected],
        "prior": [str(path) for path in study.prior.files],
    }
