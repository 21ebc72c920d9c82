"""A cache of scores by content, so that no study is scored twice.

One SQLite file without any text: the key is a hash of the metric, its version (cleaning, labeller,
weights) and the texts; the value is the row of statistics. Rows are stored in batches, so that an
interrupted run resumes where it stopped.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np

from eval.errors import EvalDataError
from eval.io.studies import Pair
from eval.metrics.base import MetricGroup, SufficientStats

logger = logging.getLogger(__name__)

_KEYS_PER_QUERY = 500  # old SQLite versions allow 999
_TIMEOUT_S = 60.0  # for another process that writes


class ScoreCache(AbstractContextManager["ScoreCache"]):
    """Rows of statistics by content.

    Args:
        path: the file, made if it is not there; None keeps nothing beyond the run.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.found = 0
        self.scored = 0
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=_TIMEOUT_S)
            with self._db:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, stats BLOB NOT NULL)"
                    " WITHOUT ROWID"
                )
        except (OSError, sqlite3.Error) as error:
            raise EvalDataError(
                f"the score cache {path} cannot be used ({error}): delete it"
            ) from (error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def rows(self, metric: MetricGroup, pairs: Sequence[Pair]) -> SufficientStats:
        """Statistics of each pair, computed where they are not known: float64 [N, width].

        Metrics whose rows depend on the whole run are not cached.
        """
        if metric.whole_run:
            return metric.score(pairs)
        places: dict[bytes, list[int]] = {}
        for place, pair in enumerate(pairs):
            places.setdefault(content_key(metric, pair), []).append(place)
        rows = np.empty((len(pairs), metric.width))
        try:
            unknown = self._fill_known(rows, places)
            self._score(metric, pairs, rows, {key: places[key] for key in unknown})
        except sqlite3.Error as error:
            raise EvalDataError(
                f"the score cache {self._path} cannot be used ({error}): free some space on its "
                "disk, or delete it"
            ) from error
        return rows

    def _fill_known(self, rows: SufficientStats, places: dict[bytes, list[int]]) -> list[bytes]:
        """Fill in the cached rows; returns the keys that are not cached."""
        keys, unknown = list(places), []
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, stats FROM scores WHERE key IN ({marks})"  # noqa: S608 - marks only
            known = dict(self._db.execute(query, part).fetchall())
            for key in part:
                stats = known.get(key, b"")
                if len(stats) == 8 * rows.shape[1]:
                    rows[places[key]] = np.frombuffer(stats, dtype="<f8")
                else:
                    unknown.append(key)
        self.found += len(keys) - len(unknown)
        return unknown

    def _score(
        self,
        metric: MetricGroup,
        pairs: Sequence[Pair],
        rows: SufficientStats,
        places: dict[bytes, list[int]],
    ) -> None:
        """Score each distinct content once, fill in its rows, and store it."""
        keys = list(places)
        for start in range(0, len(keys), metric.batch):
            part = keys[start : start + metric.batch]
            fresh = metric.score([pairs[places[key][0]] for key in part])
            for key, row in zip(part, fresh, strict=True):
                rows[places[key]] = row
            self._store(part, fresh)
            self.scored += len(part)

    def _store(self, keys: Sequence[bytes], rows: SufficientStats) -> None:
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?)",
                zip(keys, (row.astype("<f8").tobytes() for row in rows), strict=True),
            )


def content_key(metric: MetricGroup, pair: Pair) -> bytes:
    """Everything a row of this metric depends on, as 32 bytes."""
    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode()
        # lengths first: no two different lists of texts give the same bytes
        digest.update(len(data).to_bytes(8, "little") + data)

    for text in (metric.key, metric.version, metric.card.words, pair.reference, pair.draft):
        add(text)
    if metric.reads_evidence:
        for sentence in pair.sentences:
            for text in ("sentence", sentence.text, *sentence.sources):
                add(text)
        for report in pair.evidence:
            for text in ("evidence", report.report_id, report.text):
                add(text)
    return digest.digest()
