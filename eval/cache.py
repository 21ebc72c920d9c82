"""A content-addressed cache of scores, so that no study is scored twice.

One SQLite file without report text: the key hashes the metric, its version (cleaning, labeller,
weights) and the texts; the value is the row of statistics. Rows are stored batch by batch, so an
interrupted run resumes where it stopped.
"""

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from eval.errors import EvalDataError
from eval.metrics.base import MetricGroup, SufficientStats
from eval.studies import Pair
from rag.atomic_io import explain_disk_errors


class ScoreCache(closing["ScoreCache"]):
    """Rows of statistics in a file, created if missing, or in memory if ``path`` is None."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(self)
        self._path = path or Path(":memory:")
        with explain_disk_errors(self._path, EvalDataError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=60.0)  # while another process writes
            with self._db:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, stats BLOB NOT NULL)"
                    " WITHOUT ROWID"
                )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def rows(self, metric: MetricGroup, pairs: Sequence[Pair]) -> SufficientStats:
        """Cached or computed statistics of each pair: float64 [N, width].

        Metrics whose rows depend on the whole run are not cached.
        """
        if metric.whole_run:
            return metric.score(pairs)
        keys = [content_key(metric, pair) for pair in pairs]
        distinct = dict(zip(keys, pairs, strict=True))
        stats = {key: self._load(key) for key in distinct}
        missing = [key for key, row in stats.items() if len(row) != 8 * metric.width]
        for start in range(0, len(missing), metric.batch_size):
            batch = missing[start : start + metric.batch_size]
            rows = metric.score([distinct[key] for key in batch])
            stats |= {k: row.astype("<f8").tobytes() for k, row in zip(batch, rows, strict=True)}
            with explain_disk_errors(self._path, EvalDataError), self._db:
                self._db.executemany(
                    "INSERT OR REPLACE INTO scores VALUES (?, ?)",
                    # a row of zeros has no score: the next run computes it again
                    [(key, stats[key]) for key in batch if any(stats[key])],
                )
        found = np.frombuffer(b"".join(stats[key] for key in keys), dtype="<f8")
        return found.reshape(len(pairs), metric.width)

    def _load(self, key: bytes) -> bytes:
        with explain_disk_errors(self._path, EvalDataError):
            row = self._db.execute("SELECT stats FROM scores WHERE key = ?", (key,)).fetchone()
        return row[0] if row else b""


def content_key(metric: MetricGroup, pair: Pair) -> bytes:
    """SHA-256 of everything a row of this metric depends on."""
    parts: list[Any] = [metric.key, metric.version, metric.card["words"]]
    parts += [pair.reference, pair.draft]
    if metric.uses_evidence:
        parts += [list(map(asdict, pair.sentences)), list(map(asdict, pair.evidence))]
    return hashlib.sha256(json.dumps(parts).encode()).digest()
