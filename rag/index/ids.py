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

from rag.errors import StoreError
from rag.index.info import REBUILD_HINT
from rag.schema import ReportRecord

FILE = "reports.sqlite"

_TABLE = """
CREATE TABLE reports (
    report_id TEXT PRIMARY KEY, study_id TEXT NOT NULL, patient_id TEXT NOT NULL,
    text_id TEXT NOT NULL, copies INTEGER NOT NULL
) WITHOUT ROWID"""
_EXCLUDED = """
WITH named AS (SELECT patient_id FROM reports WHERE study_id IN (SELECT value FROM json_each(:studies))
               UNION SELECT value FROM json_each(:patients))
SELECT report_id, text_id, copies FROM reports WHERE patient_id IN named UNION
SELECT report_id, text_id, copies FROM reports
WHERE report_id IN (SELECT value FROM json_each(:reports))
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


NOTHING = Exclusions()


@dataclass(frozen=True, slots=True)
class Excluded:
    """The reports of an index that `Exclusions` name.

    Attributes:
        reports: their ids.
        texts: text id -> its excluded reports.
        whole_texts: texts of which no report is left.
    """

    reports: frozenset[str]
    texts: Mapping[str, Sequence[str]]
    whole_texts: frozenset[str]


def write_ids(folder: Path, texts: Mapping[str, Sequence[ReportRecord]]) -> None:
    """Write the file into the folder of a new version."""
    rows = (
        (report.report_id, report.study_id, report.patient_id, text_id, len(reports))
        for text_id, reports in texts.items()
        for report in reports
    )
    with closing(sqlite3.connect(folder / FILE)) as file, file:
        file.execute(_TABLE)
        file.executemany("INSERT INTO reports VALUES (?, ?, ?, ?, ?)", rows)
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

    def excluded(self, wanted: Exclusions) -> Excluded:
        """The reports that are meant."""
        if wanted == NOTHING:
            return Excluded(frozenset(), {}, frozenset())
        named = {key: json.dumps(sorted(ids)) for key, ids in asdict(wanted).items()}
        reports, texts, whole = set[str](), dict[str, list[str]](), set[str]()
        for report_id, text_id, copies in self._ask(_EXCLUDED, named):
            reports.add(report_id)
            texts.setdefault(text_id, []).append(report_id)
            if len(texts[text_id]) == copies:
                whole.add(text_id)
        return Excluded(frozenset(reports), texts, frozenset(whole))

    def texts_of(self, report_ids: Iterable[str]) -> dict[str, str]:
        """The texts of several reports, by report id; unknown ones are left out."""
        found = self._ask(
            "SELECT report_id, text_id FROM reports WHERE report_id IN "
            "(SELECT value FROM json_each(?))",
            (json.dumps(list(report_ids)),),
        )
        return dict(found)

    def studies_of_patients(self, patients: Iterable[str]) -> frozenset[str]:
        """All studies of some patients."""
        found = self._ask(
            "SELECT study_id FROM reports WHERE patient_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(patients)),),
        )
        return frozenset(study for (study,) in found)

    def studies_among(self, names: Iterable[str]) -> frozenset[str]:
        """Those of some names that are ids of studies."""
        return self._among("study_id", names)

    def patients_among(self, names: Iterable[str]) -> frozenset[str]:
        """Those of some names that are ids of patients."""
        return self._among("patient_id", names)

    def rows(self) -> list[tuple[str, str, str, str, int]]:
        """Everything: report, study, patient and text id, and how many reports have the text."""
        return self._ask("SELECT * FROM reports ORDER BY report_id")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _among(self, column: str, names: Iterable[str]) -> frozenset[str]:
        found = self._ask(
            f"SELECT {column} FROM reports WHERE {column} IN (SELECT value FROM json_each(?))",  # noqa: S608 - a column of ours
            (json.dumps(list(names)),),
        )
        return frozenset(name for (name,) in found)

    def _ask(self, query: str, values: Sequence[str] | Mapping[str, str] = ()) -> list[tuple]:  # type: ignore[type-arg]
        try:
            with self._turn:
                return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self._path} is missing or damaged ({error}): {REBUILD_HINT}")
