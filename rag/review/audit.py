"""The audit record: one line an event, each sealed with the line before, never changed.

Owns the file's form, appending and verifying. `rag.review.replay` makes prompts again from it. A
line is JSON: its number, time, the draft it belongs to, what happened, and two hashes; the second
is the SHA-256 of the line without it, so that a changed, removed or moved line breaks the chain. A
small file beside it names the last line, so that a cut end is noticed too. Somebody who may write
both files can write a whole new chain: note the last hash elsewhere (`cxr-rag audit verify` prints
it).

What is written is decided by `draft_event` and by callers: hashes, ids, the model's words and the
reader's, never a pixel, a header value or an image's file name.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from filelock import FileLock

from rag.atomic_io import write_text_atomic
from rag.errors import CxrRagError
from rag.prediction import Prediction
from rag.schema import Section

START = "0" * 64
"""The hash before the first line."""


class AuditError(CxrRagError):
    """The record cannot be written, or is not what was written."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the record.

    Attributes:
        number: from 0, without a gap.
        at: ISO 8601 with its offset.
        draft: id of the draft it belongs to.
        event: "draft", "region", "edit", "sign", "addendum", "export".
        data: what happened.
        before, sha256: hash of the line before, and of this one.
    """

    number: int
    at: str
    draft: str
    event: str
    data: Mapping[str, Any]
    before: str
    sha256: str


class AuditLog:
    """An append-only file that several threads and processes may write to.

    Args:
        path: the file; it and its folder are made when first written to, for the owner's eyes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_suffix(".head")

    def append(self, event: str, *, draft: str, data: Mapping[str, Any]) -> AuditEntry:
        """Write one event and wait until it is on the disk.

        Raises:
            AuditError: it could not be written; nothing must go on as if it had been.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(self.path.with_suffix(".lock")):
                return self._append(event, draft, data)
        except OSError as error:
            raise AuditError(
                f"the audit record {self.path} cannot be written: {error.strerror or error}. "
                "Free some disk space, or check who owns it."
            ) from error

    def _append(self, event: str, draft: str, data: Mapping[str, Any]) -> AuditEntry:
        last, end = self._end()
        values: dict[str, Any] = {
            "number": last.number + 1 if last else 0,
            "at": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "draft": draft,
            "event": event,
            "data": dict(data),
            "before": last.sha256 if last else START,
        }
        seal = _sha256(_plain(values))
        line = memoryview(_plain({**values, "sha256": seal}) + b"\n")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, end)
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        write_text_atomic(self._head, f"{values['number']} {seal}\n")
        return AuditEntry(**values, sha256=seal)

    def _end(self) -> tuple[AuditEntry | None, int]:
        """The last line, and the size up to its end: a crash may have cut another one short."""
        if not self.path.exists() or not self.path.stat().st_size:
            return None, 0
        with self.path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            end, size = content.rfind(b"\n") + 1, len(content)
            line = content[content.rfind(b"\n", 0, end - 1) + 1 : end]
        entry = _entry(line)
        # what a crash cut short was never sealed
        cut = end < size and self._sealed()[0] > (entry.number if entry else -1)
        if cut or (end and entry is None):
            raise AuditError(
                f"the last line of the audit record {self.path} was changed: move the record to a "
                "safe place, and another one is begun"
            )
        return entry, end

    def entries(self) -> Iterator[AuditEntry]:
        """All whole lines, in order; verifies nothing."""
        return filter(None, self._lines())

    def _lines(self) -> Iterator[AuditEntry | None]:
        """Each whole line; None where it is none of a record."""
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from (_entry(line) for line in file if line.endswith(b"\n"))

    def entries_of(self, draft: str) -> list[AuditEntry]:
        """The lines of one draft, by its id or the unambiguous beginning of it.

        Raises:
            AuditError: there is no such draft, or there are several.
        """
        found = [entry for entry in self.entries() if entry.draft.startswith(draft)]
        ids = {entry.draft for entry in found}
        if len(ids) != 1 or not draft:
            kind = "several drafts" if ids else "no draft"
            raise AuditError(f"{self.path} has {kind} whose id begins with {draft!r}")
        return found

    def verify(self) -> tuple[int, str]:
        """Check every line.

        Returns:
            How many lines there are, and the last hash.

        Raises:
            AuditError: a line was changed, removed, moved, added, or cut off; its number is named.
        """
        before, count = START, 0
        with ExitStack() as held:
            with suppress(OSError):  # one that cannot be written to has no writers
                held.enter_context(FileLock(self.path.with_suffix(".lock")))
            for count, entry in enumerate(self._lines(), 1):
                before = _check(entry, count, before)
            self._check_end(count, before)
        return count, before

    def _sealed(self) -> tuple[int, str]:
        """Number and hash of the line that was written last; -1 where none was."""
        head = self._head.read_text(encoding="ascii") if self._head.exists() else ""
        number, _, seal = head.strip().partition(" ")
        return int(number or -1), seal

    def _check_end(self, count: int, last: str) -> None:
        if self.path.exists() and self._end()[1] < self.path.stat().st_size:
            raise AuditError(f"the last line of {self.path} is cut short: a crash while writing it")
        number, seal = self._sealed()
        if count and number < 0:
            raise AuditError(f"{self._head} is missing: whether the end was cut is not known")
        if number >= 0 and (number, seal) != (count - 1, last):
            raise AuditError(
                f"line {number + 1} was written last, the file ends with {count}: lines at "
                "the end were removed or added"
            )


def draft_event(
    prediction: Prediction, *, images: Sequence[str], indication: str, ruled_out: Sequence[str]
) -> dict[str, Any]:
    """What is kept of a draft: enough to make its prompt again, and to see what was answered.

    Args:
        prediction: the finished draft, or why there is none.
        images: SHA-256 of each image's bytes.
        indication: as it stood in the prompt.
        ruled_out: report ids the reader had called irrelevant.
    """
    check = prediction.check
    return {
        "images": list(images),
        "status": prediction.status.value,
        "error": prediction.error,
        "encoder": prediction.encoder_id,
        "index": prediction.index_id,
        "llm": prediction.llm,
        "prompt": prediction.prompt,
        "prompt_sha256": prediction.prompt_hash,
        "indication": indication,
        "ruled_out": sorted(ruled_out),
        **({"region": dict(prediction.region)} if prediction.region else {}),
        "labels": dict(prediction.labels),
        "expected": list(prediction.predicted.positive),
        "variables": dict(prediction.variables),
        "evidence": [
            {
                "report_id": hit.record.report_id,
                "rank": rank,
                "similarity": hit.similarity,
                "copies": hit.copies,
                "why": hit.why,
                "text_sha256": _sha256(hit.record.text.encode()),
            }
            for rank, hit in enumerate(prediction.hits, 1)
        ],
        "answer": prediction.answer,
        "sentences": [
            {"section": section.value, "text": sentence.text, "sources": list(sentence.sources)}
            for section in Section
            for sentence in prediction.draft.section(section)
        ],
        "verdicts": [each.verdict.value for each in check.sentences] if check else [],
        "seconds": {stage: round(value, 4) for stage, value in prediction.seconds.items()},
    }


def _check(entry: AuditEntry | None, place: int, before: str) -> str:
    """The hash of a line that is whole, and follows the one with the hash ``before``."""
    values = asdict(entry) if entry else {}
    if entry is None or values.pop("sha256") != _sha256(_plain(values)):
        raise AuditError(f"line {place} was changed: its hash does not fit its content")
    if entry.number != place - 1 or entry.before != before:
        raise AuditError(
            f"line {place} does not follow the one before it: a line was removed, added or moved"
        )
    return entry.sha256


def _entry(line: bytes) -> AuditEntry | None:
    """A line, if it is one."""
    try:
        return AuditEntry(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _plain(values: Mapping[str, Any]) -> bytes:
    """The one way to write a line: sorted keys, no blanks, ASCII."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode(
        "ascii"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
