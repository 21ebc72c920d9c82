"""Vectors of an indexing that has not finished yet, so that a killed one need not embed again.

One file, appended to and flushed batch by batch; a torn or foreign end is cut off when it is read.
Entry: 16 bytes of the text's hash, the vector as float32, CRC-32 of both.
"""

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.store.files import EncoderIdentity

JOURNAL = "embedded.journal"
_HASH_BYTES, _CRC_BYTES = 16, 4


class EmbeddingJournal:
    """The journal of one directory for one encoder; another encoder's is thrown away."""

    def __init__(self, directory: Path, encoder: EncoderIdentity) -> None:
        self._path = directory / JOURNAL
        self._dim = encoder.dim
        made_by = [encoder.encoder_id, encoder.preprocess_hash, encoder.dim]
        self._header = json.dumps(made_by).encode() + b"\n"

    def read(self) -> dict[str, NDArray[np.float32]]:
        """Vectors by text hash; what cannot be used of the file is cut off."""
        data = self._path.read_bytes() if self._path.exists() else b""
        if not data.startswith(self._header):
            self._path.unlink(missing_ok=True)
            return {}
        size = _HASH_BYTES + 4 * self._dim + _CRC_BYTES
        found = {}
        good = len(self._header)
        while good + size <= len(data):
            entry = data[good : good + size]
            body, crc = entry[:-_CRC_BYTES], entry[-_CRC_BYTES:]
            if zlib.crc32(body).to_bytes(_CRC_BYTES, "little") != crc:
                break
            found[body[:_HASH_BYTES].hex()] = np.frombuffer(body[_HASH_BYTES:], "<f4")
            good += size
        if good < len(data):
            os.truncate(self._path, good)
        return found

    def append(self, text_hashes: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add vectors and wait until they are on the disk."""
        with self._path.open("ab") as file:
            if not file.tell():
                file.write(self._header)
            for text_hash, vector in zip(text_hashes, vectors, strict=True):
                body = bytes.fromhex(text_hash) + vector.astype("<f4").tobytes()
                file.write(body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little"))
            file.flush()
            os.fsync(file.fileno())


def remove_journal(directory: Path) -> None:
    """Delete it, as what it holds is indexed or must be forgotten."""
    (directory / JOURNAL).unlink(missing_ok=True)
