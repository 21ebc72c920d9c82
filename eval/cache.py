"""A cache of scores by content, so that no study is scored twice.

One SQLite file without any text: the key is a hash of the metric, its version (cleaning, labeller,
weights) and the texts; the value is the row of statistics. Rows are stored in batches, so that an
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
    """Rows of statistics by content.

    Args:
        path: the file, made if it is not there; None keeps nothing beyond the run.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(self)
        self._path = path or Path(":memory:")
        with explain_disk_errors(self._path, EvalDataError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # waits for another process that writes
            self._db = sqlite3.connect(self._path, timeout=60.0)
            with self._db:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, stats BLOB NOT NULL)"
                    " WITHOUT ROWID"
                )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def rows(self, metric: MetricGroup, pairs: Sequence[Pair]) -> SufficientStats:
        """Statistics of each pair, computed where they are not known: float64 [N, width].

        Metrics whose rows depend on the whole run are not cached.
        """
        if metric.whole_run:
            return metric.score(pairs)
        keys = [content_key(metric, pair) for pair in pairs]
        distinct = dict(zip(keys, pairs, strict=True))
        known = {key: self._known(key) for key in distinct}
        unknown = [key for key, stats in known.items() if len(stats) != 8 * metric.width]
        for start in range(0, len(unknown), metric.batch):
            part = unknown[start : start + metric.batch]
            fresh = metric.score([distinct[key] for key in part])
            known |= {k: r.astype("<f8").tobytes() for k, r in zip(part, fresh, strict=True)}
            with explain_disk_errors(self._path, EvalDataError), self._db:
                self._db.executemany(
                    "INSERT OR REPLACE INTO scores VALUES (?, ?)",
                    # a row of zeros counts for nothing: it is asked for again
                    [(key, known[key]) for key in part if any(known[key])],
                )
        rows = np.frombuffer(b"".join(known[key] for key in keys), dtype="<f8")
        return rows.reshape(len(pairs), metric.width)

    def _known(self, key: bytes) -> bytes:
        with explain_disk_errors(self._path, EvalDataError):
            row = self._db.execute("SELECT stats FROM scores WHERE key = ?", (key,)).fetchone()
        return row[0] if row else b""


def content_key(metric: MetricGroup, pair: Pair) -> bytes:
    """Everything a row of this metric depends on, as 32 bytes."""
    facts: list[Any] = [metric.key, metric.version, metric.card["words"]]
    facts += [pair.reference, pair.draft]
    if metric.reads_evidence:
        facts += [list(map(asdict, pair.sentences)), list(map(asdict, pair.evidence))]
    return hashlib.sha256(json.dumps(facts).encode()).digest()
