"""``reports.sqlite``: report, study and patient ids of an index, and which text each report has.

A filter on Chroma's metadata would do, but reads every record: 2.8 ms at 20 000 reports, where the
whole query takes 3.3, and growing with the index. These four columns open in a millisecond at any
size. The file is never changed.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag.errors import StoreError
from rag.index.info import REBUILD_HINT
from rag.schema import ReportRecord

IDS_FILE = "reports.sqlite"

_TABLE = """
CREATE TABLE reports (
    report_id TEXT PRIMARY KEY, study_id TEXT NOT NULL, patient_id TEXT NOT NULL,
    text_id TEXT NOT NULL
) WITHOUT ROWID"""
_EXCLUDED = """
WITH named AS (SELECT patient_id FROM reports WHERE study_id IN (SELECT value FROM json_each(:studies))
               UNION SELECT value FROM json_each(:patients))
SELECT report_id, text_id FROM reports WHERE patient_id IN named UNION
SELECT report_id, text_id FROM reports WHERE report_id IN (SELECT value FROM json_each(:reports))
"""  # noqa: E501


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What a query must not return.

    Attributes:
        studies: study ids; all reports of their patients are excluded.
        patients: patient ids.
        reports: ids of single reports.
    """

    studies: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    reports: frozenset[str] = frozenset()


NO_EXCLUSIONS = Exclusions()


def id_rows(texts: Mapping[str, Sequence[ReportRecord]]) -> list[tuple[str, str, str, str]]:
    """Report, study, patient and text id of each report, from the reports by text id."""
    return [
        (report.report_id, report.study_id, report.patient_id, text_id)
        for text_id, reports in texts.items()
        for report in reports
    ]


def write_ids(folder: Path, texts: Mapping[str, Sequence[ReportRecord]]) -> None:
    """Write the file into the folder of a new version."""
    with closing(sqlite3.connect(folder / IDS_FILE)) as connection, connection:
        connection.execute(_TABLE)
        connection.executemany("INSERT INTO reports VALUES (?, ?, ?, ?)", id_rows(texts))
        connection.execute("CREATE INDEX by_study ON reports (study_id)")
        connection.execute("CREATE INDEX by_patient ON reports (patient_id)")


class ReportIds:
    """The file, opened for reading; thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / IDS_FILE
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?immutable=1", uri=True, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        self._query("SELECT 1 FROM reports LIMIT 1")

    def excluded(self, exclude: Exclusions) -> dict[str, str]:
        """The excluded reports: report id -> text id."""
        if exclude == NO_EXCLUSIONS:
            return {}
        parameters = {key: json.dumps(sorted(ids)) for key, ids in asdict(exclude).items()}
        return dict(self._query(_EXCLUDED, parameters))

    def text_ids(self, report_ids: Iterable[str]) -> dict[str, str]:
        """Text ids by report id; unknown reports are left out."""
        return dict(self._select("report_id, text_id", "report_id", report_ids))

    def select(self, column: str, *, where: str, values: Iterable[str]) -> frozenset[str]:
        """Values of a column, from the rows whose ``where`` column has one of the given values."""
        return frozenset(name for (name,) in self._select(column, where, values))

    def rows(self) -> list[tuple[str, str, str, str]]:
        """All rows, as `id_rows` returns them, by report id."""
        return self._query(
            "SELECT report_id, study_id, patient_id, text_id FROM reports ORDER BY report_id"
        )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _select(self, columns: str, key: str, values: Iterable[str]) -> list[Any]:
        return self._query(
            f"SELECT {columns} FROM reports WHERE {key} IN (SELECT value FROM json_each(?))",  # noqa: S608 - columns of ours
            (json.dumps(list(values)),),
        )

    def _query(self, sql: str, parameters: Sequence[str] | Mapping[str, str] = ()) -> list[Any]:
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self._path} is missing or damaged ({error}): {REBUILD_HINT}")
