"""Scores that were computed before, by content: a study is never scored twice.

One SQLite file. A key is a hash of the family, its version (cleaning, labeller, weights and all)
and the texts; a value is the row of statistics. Rows are stored in batches, so that a run that is
interrupted goes on where it stopped. Holds no text.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np

from eval.errors import EvalDataError
from eval.metrics.base import Family, Rows
from eval.studies import Pair

logger = logging.getLogger(__name__)

_ASKED = 500  # keys in one question; SQLite allows more, old ones 999
_PATIENCE = 60.0  # seconds to wait for another process that writes


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
            self._db = sqlite3.connect(path or ":memory:", timeout=_PATIENCE)
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

    def rows(self, family: Family, pairs: Sequence[Pair]) -> Rows:
        """Statistics of each pair, computed where they are not known: float64 [N, width].

        Families whose rows depend on the whole run are computed and not kept.
        """
        if family.whole_run:
            return family.score(pairs)
        keys = [content_key(family, pair) for pair in pairs]
        try:
            known = self._score_unknown(family, keys, pairs)
        except sqlite3.Error as error:
            raise EvalDataError(
                f"the score cache {self._path} cannot be used ({error}): free some space on its "
                "disk, or delete it"
            ) from error
        return np.array([known[key] for key in keys]).reshape(len(pairs), family.width)

    def _score_unknown(
        self, family: Family, keys: Sequence[bytes], pairs: Sequence[Pair]
    ) -> dict[bytes, Rows]:
        known = self._known(set(keys), family.width)
        self.found += len(known)
        wanted = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        todo = list(wanted.items())
        for start in range(0, len(todo), family.batch):
            part = todo[start : start + family.batch]
            rows = family.score([pair for _, pair in part])
            fresh = {key: row for (key, _), row in zip(part, rows, strict=True)}
            self._keep(fresh)
            known |= fresh
            self.scored += len(fresh)
        return known

    def _known(self, keys: Iterable[bytes], width: int) -> dict[bytes, Rows]:
        found: dict[bytes, Rows] = {}
        wanted = sorted(keys)
        for start in range(0, len(wanted), _ASKED):
            part = wanted[start : start + _ASKED]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, stats FROM scores WHERE key IN ({marks})"  # noqa: S608 - marks only
            for key, stats in self._db.execute(query, part):
                if len(stats) == 8 * width:
                    found[key] = np.frombuffer(stats, dtype="<f8")
        return found

    def _keep(self, rows: dict[bytes, Rows]) -> None:
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?)",
                [(key, row.astype("<f8").tobytes()) for key, row in rows.items()],
            )


def content_key(family: Family, pair: Pair) -> bytes:
    """Everything a row of this family depends on, as 32 bytes."""
    digest = hashlib.sha256()

    def add(text: str) -> None:
        data = text.encode()
        # lengths first: no two different lists of texts give the same bytes
        digest.update(len(data).to_bytes(8, "little") + data)

    for text in (family.key, family.version, family.card.words, pair.reference, pair.draft):
        add(text)
    if family.reads_evidence:
        for sentence in pair.sentences:
            for text in ("sentence", sentence.text, *sentence.sources):
                add(text)
        for report in pair.evidence:
            for text in ("evidence", report.report_id, report.text):
                add(text)
    return digest.digest()
