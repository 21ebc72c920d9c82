"""The audit record: an append-only file of JSON lines, chained by their hashes.

Owns the file format, appending and verifying. Each line has its SHA-256 and that of the line
before, so a changed, removed or moved line breaks the chain; a head file beside it names the last
line, so a truncated record is noticed too. Whoever can write both files can forge a whole chain:
note the last hash elsewhere (`cxr-rag audit verify` prints it).

`draft_event` and the callers decide what is written: hashes, ids, the words of model and reader,
never a pixel, a header value or an image's file name.
"""

import hashlib
import json
import math
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

GENESIS_HASH = "0" * 64
"""What the first line has as the hash of the line before."""


class AuditError(CxrRagError):
    """The record cannot be written, or was changed."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the record; the attributes are its JSON keys.

    Attributes:
        number: from 0, without gaps.
        at: ISO 8601 with UTC offset.
        draft: id of the draft.
        event: "draft", "region", "edit", "sign", "addendum", "export".
        data: details of the event.
        before, sha256: hashes of the line before and of this one.
    """

    number: int
    at: str
    draft: str
    event: str
    data: Mapping[str, Any]
    before: str
    sha256: str


class AuditLog:
    """The record's file; several threads and processes may append to it.

    Args:
        path: created at the first append, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_suffix(".head")

    def append(self, event: str, *, draft: str, data: Mapping[str, Any]) -> AuditEntry:
        """Append one event and wait until it is on the disk.

        Raises:
            AuditError: it could not be written; the caller must not go on.
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
        last, end = self._last_entry()
        values: dict[str, Any] = {
            "number": last.number + 1 if last else 0,
            "at": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "draft": draft,
            "event": event,
            "data": dict(data),
            "before": last.sha256 if last else GENESIS_HASH,
        }
        sha256 = _sha256(_canonical_json(values))
        line = memoryview(_canonical_json({**values, "sha256": sha256}) + b"\n")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, end)
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        write_text_atomic(self._head, f"{values['number']} {sha256}\n")
        return AuditEntry(**values, sha256=sha256)

    def _last_entry(self) -> tuple[AuditEntry | None, int]:
        """The last complete line, and the offset of its end: a crash may have cut off a later one.

        Raises:
            AuditError: it was changed after it was written.
        """
        end, size = self._measure()
        if not size:
            return None, 0
        with self.path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            entry = _parse(content[content.rfind(b"\n", 0, end - 1) + 1 : end])
        # a line that a crash cut off is not in the head file
        truncated = end < size and self._read_head()[0] > (entry.number if entry else -1)
        if truncated or (end and entry is None):
            raise AuditError(
                f"the last line of the audit record {self.path} was changed: move the record to a "
                "safe place, and a new one will be started"
            )
        return entry, end

    def entries(self) -> Iterator[AuditEntry]:
        """All valid lines in order, not verified."""
        return filter(None, self._parsed_lines())

    def _parsed_lines(self, end: float = math.inf) -> Iterator[AuditEntry | None]:
        """Each complete line before the offset ``end``; None if it is no entry."""
        if self.path.exists():
            with self.path.open("rb") as file:
                while file.tell() < end and (line := file.readline()).endswith(b"\n"):
                    yield _parse(line)

    def entries_of(self, draft: str) -> list[AuditEntry]:
        """The entries of one draft, by its id or an unambiguous prefix.

        Raises:
            AuditError: no draft, or several, have this prefix.
        """
        entries = [entry for entry in self.entries() if entry.draft.startswith(draft)]
        ids = {entry.draft for entry in entries}
        if len(ids) != 1 or not draft:
            kind = "several drafts" if ids else "no draft"
            raise AuditError(f"{self.path} has {kind} whose id begins with {draft!r}")
        return entries

    def verify(self) -> tuple[int, str]:
        """Verify every line.

        Returns:
            Number of lines, and the last hash.

        Raises:
            AuditError: names the line that was changed, removed, moved, added or cut off.
        """
        with ExitStack() as lock:
            if self.path.exists():
                with suppress(OSError):  # a record in a read-only folder has no writers
                    lock.enter_context(FileLock(self.path.with_suffix(".lock")))
            end, size, head = *self._measure(), self._read_head()
        # complete lines never change, so the rest needs no lock, which would stop all writers
        sha256, count = GENESIS_HASH, 0
        for count, entry in enumerate(self._parsed_lines(end), 1):
            sha256 = _verify_entry(entry, count, before=sha256)
        self._verify_end(count, sha256, head=head, is_cut=end < size)
        return count, sha256

    def _measure(self) -> tuple[int, int]:
        """Offset of the end of the last complete line, and size of the file."""
        if not self.path.exists() or not self.path.stat().st_size:
            return 0, 0
        with self.path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            return content.rfind(b"\n") + 1, len(content)

    def _read_head(self) -> tuple[int, str]:
        """Number and hash of the line written last; -1 if none was, or the file is damaged."""
        head = self._head.read_text("ascii", "replace") if self._head.exists() else ""
        number, _, sha256 = head.strip().partition(" ")
        return int(number) if number.isdecimal() else -1, sha256

    def _verify_end(self, count: int, last: str, *, head: tuple[int, str], is_cut: bool) -> None:
        number, sha256 = head
        if is_cut and number < count:
            raise AuditError(f"the last line of {self.path} is cut short: a crash while writing it")
        if count and number < 0:
            raise AuditError(
                f"{self._head} is missing or damaged: lines at the end may have been removed"
            )
        if number >= 0 and (number, sha256) != (count - 1, last):
            raise AuditError(
                f"line {number + 1} was written last, the file ends with {count}: lines at "
                "the end were removed or added"
            )


def draft_event(
    prediction: Prediction, *, images: Sequence[str], indication: str, ruled_out: Sequence[str]
) -> dict[str, Any]:
    """Data of a "draft" event: enough to render its prompt again and to see the answer.

    Args:
        prediction: the finished draft, or why there is none.
        images: SHA-256 of each image's bytes.
        indication: as in the prompt.
        ruled_out: ids of reports that the reader had ruled out.
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
        "verdicts": [sentence.verdict.value for sentence in check.sentences] if check else [],
        "seconds": {stage: round(value, 4) for stage, value in prediction.seconds.items()},
    }


def _verify_entry(entry: AuditEntry | None, line: int, *, before: str) -> str:
    """The hash of an unchanged entry that follows the one with the hash ``before``."""
    values = asdict(entry) if entry else {}
    if entry is None or values.pop("sha256") != _sha256(_canonical_json(values)):
        raise AuditError(f"line {line} was changed: its hash does not fit its content")
    if entry.number != line - 1 or entry.before != before:
        raise AuditError(
            f"line {line} does not follow the one before it: a line was removed, added or moved"
        )
    return entry.sha256


def _parse(line: bytes) -> AuditEntry | None:
    try:
        return AuditEntry(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _canonical_json(values: Mapping[str, Any]) -> bytes:
    """Sorted keys, no spaces, ASCII: equal values have equal hashes."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode(
        "ascii"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
