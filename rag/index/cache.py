"""Vectors by content hash: what has been embedded once is not embedded again.

One file beside the index, appended to and flushed batch by batch, so that a killed indexing loses
a batch at most; a torn or foreign end is cut off when it is read. Only writers of an index open it.
Entry: 16 bytes of the hash, the vector as float32, CRC-32 of both.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.index.info import EncoderIdentity, disk_errors

FILE = "embeddings.cache"
KEY_LENGTH = 32
"""Hex digits of a key: the beginning of a SHA-256."""


class EmbeddingCache:
    """The cache of one folder for one encoder; another encoder's is thrown away.

    Raises:
        StoreError: the disk refuses.
    """

    def __init__(
        self, directory: Path, encoder: EncoderIdentity, *, read_only: bool = False
    ) -> None:
        self._directory = directory
        self._path = directory / FILE
        made_by = [encoder.encoder_id, encoder.preprocess_hash, encoder.dim]
        self._header = json.dumps(made_by).encode() + b"\n"
        self._entry = np.dtype([("key", "V16"), ("vector", "<f4", (encoder.dim,)), ("crc", "<u4")])
        with disk_errors(directory):
            self._rows, good = self._read()
            if not read_only and self._path.exists() and good < self._path.stat().st_size:
                os.truncate(self._path, good)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def vectors(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of keys that are here: float32 [len(keys), dim]."""
        rows = [self._rows[key] for key in keys]
        if not rows:
            return np.empty((0, *self._entry["vector"].shape), np.float32)
        return np.asarray(self._mapped()["vector"][rows], np.float32)

    def append(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add vectors and wait until they are on the disk."""
        with disk_errors(self._directory), self._path.open("ab") as file:
            if not file.tell():
                file.write(self._header)
            file.writelines(self._entries(keys, vectors))
            file.flush()
            os.fsync(file.fileno())
        for key in keys:
            self._rows[key] = len(self._rows)

    def keep(self, keys: Iterable[str]) -> None:
        """Forget all but these, so that nothing is left of a report that was removed."""
        kept = [key for key in dict.fromkeys(keys) if key in self._rows]
        if len(kept) == len(self._rows):
            return
        beside = self._path.with_suffix(".new")
        with disk_errors(self._directory), beside.open("wb") as file:
            file.write(self._header)
            for start in range(0, len(kept), 4096):
                part = kept[start : start + 4096]
                file.writelines(self._entries(part, self.vectors(part)))
            file.flush()
            os.fsync(file.fileno())
            beside.replace(self._path)
        self._rows = {key: row for row, key in enumerate(kept)}

    def _entries(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> Iterator[bytes]:
        for key, vector in zip(keys, vectors, strict=True):
            body = bytes.fromhex(key) + vector.astype("<f4").tobytes()
            yield body + zlib.crc32(body).to_bytes(4, "little")

    def _mapped(self) -> NDArray[np.void]:
        size = len(self._header) + len(self._rows) * self._entry.itemsize
        whole = np.memmap(self._path, np.uint8, "r", shape=(size,))
        return np.asarray(whole[len(self._header) :].view(self._entry))

    def _read(self) -> tuple[dict[str, int], int]:
        """Rows by key, and up to where the file can be used."""
        rows: dict[str, int] = {}
        if not self._path.exists():
            return rows, 0
        with self._path.open("rb") as file:
            if file.readline() != self._header:
                return rows, 0
            good = len(self._header)
            while len(entry := file.read(self._entry.itemsize)) == self._entry.itemsize:
                if zlib.crc32(entry[:-4]).to_bytes(4, "little") != entry[-4:]:
                    break
                if rows.setdefault(entry[:16].hex(), len(rows)) != len(rows) - 1:
                    break  # a key for the second time: not written by us
                good += len(entry)
        return rows, good
