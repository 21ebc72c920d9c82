"""``reports.sqlite``: which report, study and patient stands in which text of the index.

Chroma could answer this by a filter on metadata, but it looks at every record to do so: 2.8 ms at
20 000 reports, where the whole query takes 3.3, and growing with the index. So these four columns
are kept beside it, and opened in a millisecond at any size. Never written again once it is made.
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

FILE = "reports.sqlite"

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
    """What a query must not bring back.

    Attributes:
        studies: whose reports, and those of their patients, stay out.
        patients: whose reports stay out.
        reports: single ones, by their id.
    """

    studies: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    reports: frozenset[str] = frozenset()


NO_EXCLUSIONS = Exclusions()


def id_rows(texts: Mapping[str, Sequence[ReportRecord]]) -> list[tuple[str, str, str, str]]:
    """Report, study, patient and text id of each report, from the reports of each text."""
    return [
        (report.report_id, report.study_id, report.patient_id, text_id)
        for text_id, reports in texts.items()
        for report in reports
    ]


def write_ids(folder: Path, texts: Mapping[str, Sequence[ReportRecord]]) -> None:
    """Write the file into the folder of a new version."""
    with closing(sqlite3.connect(folder / FILE)) as file, file:
        file.execute(_TABLE)
        file.executemany("INSERT INTO reports VALUES (?, ?, ?, ?)", id_rows(texts))
        file.execute("CREATE INDEX by_study ON reports (study_id)")
        file.execute("CREATE INDEX by_patient ON reports (patient_id)")


class ReportIds:
    """The file, opened for reading. May be asked from several threads."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._turn = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?immutable=1", uri=True, check_same_thread=False
            )
            self._ask("SELECT 1 FROM reports LIMIT 1")
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def excluded(self, wanted: Exclusions) -> dict[str, str]:
        """The reports that are meant, each with its text."""
        if wanted == NO_EXCLUSIONS:
            return {}
        named = {key: json.dumps(sorted(ids)) for key, ids in asdict(wanted).items()}
        return dict(self._ask(_EXCLUDED, named))

    def texts_of(self, report_ids: Iterable[str]) -> dict[str, str]:
        """The texts of several reports, by report id; unknown ones are left out."""
        return dict(self._select("report_id, text_id", "report_id", report_ids))

    def studies_of_patients(self, patients: Iterable[str]) -> frozenset[str]:
        """All studies of some patients."""
        return frozenset(name for (name,) in self._select("study_id", "patient_id", patients))

    def studies_among(self, names: Iterable[str]) -> frozenset[str]:
        """Those of some names that are ids of studies."""
        return frozenset(name for (name,) in self._select("study_id", "study_id", names))

    def patients_among(self, names: Iterable[str]) -> frozenset[str]:
        """Those of some names that are ids of patients."""
        return frozenset(name for (name,) in self._select("patient_id", "patient_id", names))

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Everything, as `id_rows` gives it, by report id."""
        return self._ask(
            "SELECT report_id, study_id, patient_id, text_id FROM reports ORDER BY report_id"
        )

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            self._connection.close()

    def _select(self, what: str, column: str, values: Iterable[str]) -> list[Any]:
        return self._ask(
            f"SELECT {what} FROM reports WHERE {column} IN (SELECT value FROM json_each(?))",  # noqa: S608 - columns of ours
            (json.dumps(list(values)),),
        )

    def _ask(self, query: str, values: Sequence[str] | Mapping[str, str] = ()) -> list[Any]:
        try:
            with self._turn:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self._path} is missing or damaged ({error}): {REBUILD_HINT}")
