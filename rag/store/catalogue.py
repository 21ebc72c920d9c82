"""What is in an edition: vectors, ids, groups and, when asked, the records themselves.

Row numbers run over reports sorted by report id, as in vectors.npy, so that the order of rows is
the order of ids. Texts stay on the disk (mapped) until a hit needs them.
"""

import json
import mmap
from collections.abc import Iterable, Iterator, KeysView, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.corpus import record_from_json
from rag.errors import StoreError, StoreMismatchError
from rag.schema import ReportRecord
from rag.store.files import (
    RECORDS,
    REINDEX_HINT,
    EncoderIdentity,
    Manifest,
    current_edition,
    current_mark,
    read_manifest,
    read_vectors,
)

Rows = NDArray[np.intp]


class Groups:
    """Rows that share a key (a study, a patient, a text), in little memory."""

    def __init__(self, keys: Iterable[str], count: int) -> None:
        self._code_of: dict[str, int] = {}
        codes = (self._code_of.setdefault(key, len(self._code_of)) for key in keys)
        self.codes = np.fromiter(codes, np.int32, count)
        self._order = np.argsort(self.codes, kind="stable")
        ends = np.cumsum(np.bincount(self.codes, minlength=len(self._code_of)))
        self._ends = np.concatenate([[0], ends])

    @property
    def keys(self) -> KeysView[str]:
        """All keys; ``in`` is quick."""
        return self._code_of.keys()

    def rows(self, key: str) -> Rows:
        """Rows of a key, ascending; none if the key is unknown."""
        code = self._code_of.get(key)
        return np.empty(0, np.intp) if code is None else self.members(code)

    def members(self, code: int) -> Rows:
        """Rows of a code, ascending."""
        return self._order[self._ends[code] : self._ends[code + 1]]

    @property
    def firsts(self) -> Rows:
        """The first row of each code, by code."""
        return np.asarray(self._order[self._ends[:-1]], np.intp)

    def repeats(self, excluded: Rows) -> Rows:
        """Rows that need not be looked at where rows of one key count once.

        Of each key's rows that are not excluded, all but the first.
        """
        if not len(excluded):
            return self._repeats
        touched = np.unique(self.codes[excluded])
        left = np.setdiff1d(np.concatenate([self.members(code) for code in touched]), excluded)
        _, first = np.unique(self.codes[left], return_index=True)
        return np.setdiff1d(self._repeats, left[first], assume_unique=True)

    @cached_property
    def _repeats(self) -> Rows:
        return np.sort(np.delete(self._order, self._ends[:-1]))

    def size(self, row: int) -> int:
        """How many rows share the key of this row, itself included."""
        code = self.codes[row]
        return int(self._ends[code + 1] - self._ends[code])


class Catalogue:
    """The reports of one edition.

    Attributes:
        report_ids: sorted; a report's place is its row.
        row_of: the row of a report id.
        studies, patients, texts: rows by study id, patient id, exact text.
    """

    def __init__(self, edition: Path, manifest: Manifest) -> None:
        path = edition / RECORDS
        try:
            self._data = _map(path)
            heads = [_head(line) for line in self._lines()]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path} is damaged ({type(error).__name__}): {REINDEX_HINT}"
            ) from error
        self.report_ids = [head[0] for head in heads]
        if len(heads) != manifest.count or any(
            one >= other for one, other in pairwise(self.report_ids)
        ):
            raise StoreError(
                f"{path} does not hold {manifest.count} reports in order: {REINDEX_HINT}"
            )
        self.row_of = {report_id: row for row, report_id in enumerate(self.report_ids)}
        self.studies = Groups((head[1] for head in heads), len(heads))
        self.patients = Groups((head[2] for head in heads), len(heads))
        self.texts = Groups((head[3] for head in heads), len(heads))
        lengths = [len(line) for line in self._lines()]
        self._ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.report_ids)

    def record(self, row: int) -> ReportRecord:
        """The report of a row, read from the disk."""
        values = json.loads(str(self._data[self._ends[row] : self._ends[row + 1]], "utf-8"))
        del values["text_hash"]
        return record_from_json(values)

    def has_each_text_once(self, report_ids: Sequence[str]) -> bool:
        """Whether these are reports of this edition, one for each of its texts."""
        rows = [self.row_of[name] for name in report_ids if name in self.row_of]
        held = np.sort(self.texts.codes[rows])
        every = np.arange(len(self.texts.keys))
        return len(rows) == len(report_ids) and np.array_equal(held, every)

    def records(self) -> Iterator[ReportRecord]:
        """All reports, by row."""
        return (self.record(row) for row in range(len(self)))

    def _lines(self) -> Iterator[bytes]:
        start = 0
        while (end := self._data.find(b"\n", start) + 1) > 0:
            yield self._data[start:end]
            start = end


@dataclass(frozen=True, slots=True, eq=False)
class Edition:
    """One edition of a store, opened for reading. It stays readable after it was replaced.

    Attributes:
        path: its folder.
        manifest: what it was made with.
        vectors: float32 [R, dim], mapped.
        catalogue: its reports.
        mark: `current_mark` of the moment when it counted.
    """

    path: Path
    manifest: Manifest
    vectors: NDArray[np.float32]
    catalogue: Catalogue
    mark: tuple[int, int] = (0, 0)


def open_edition(directory: Path) -> Edition:
    """Open the edition that counts.

    Raises:
        StoreMissingError: nothing has been indexed here.
        StoreError: its files are damaged.
        StoreMismatchError: another version of the program wrote it.
    """
    while True:
        mark = current_mark(directory)
        path = current_edition(directory)
        try:
            return replace(read_edition(path), mark=mark)
        except StoreError:
            if current_mark(directory) == mark:  # else it was replaced under our hands: once more
                raise


def read_edition(path: Path) -> Edition:
    """Open one edition's folder, whether it counts or is being made."""
    manifest = read_manifest(path)
    return Edition(path, manifest, read_vectors(path, manifest), Catalogue(path, manifest))


def check_encoder(directory: Path, manifest: Manifest, encoder: EncoderIdentity | None) -> None:
    """Refuse an encoder that did not make the index.

    Raises:
        StoreMismatchError: names both and the command that embeds again.
    """
    if encoder is None:
        return
    made, asking = _described(manifest), _described(encoder)
    if made != asking:
        raise StoreMismatchError(
            f"the index in {directory} was made by {made}, and {asking} is asking: use the encoder "
            "it was made with, or embed all its reports again with `cxr-rag index --replace`"
        )


def _described(encoder: EncoderIdentity) -> str:
    return (
        f"{encoder.encoder_id} ({encoder.dim} dimensions, preprocessing {encoder.preprocess_hash})"
    )


def _map(path: Path) -> mmap.mmap | bytes:
    """A file's bytes, mapped; the mapping stays valid when the edition is swept away."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _head(line: bytes) -> tuple[str, str, str, str]:
    values = json.loads(line)
    return values["report_id"], values["study_id"], values["patient_id"], values["text_hash"]
