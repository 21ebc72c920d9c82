"""A folder of report texts -> rows, one at a time, whatever is wrong inside them.

Tables are `encoders.tabular`'s. Does not know what a row must hold.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from encoders.tabular import Row

_LONGEST_FILE = 1_000_000  # bytes
_MIMIC_PATIENT = re.compile(r"p\d{8}")  # files/p10/p10000032/s50414267.txt
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def text_rows(folder: Path) -> Iterator[Row]:
    """Text files of a folder and its subfolders, by path; the file name is the report id."""
    paths = (path for path in folder.rglob("*") if path.suffix.lower() == ".txt")
    for path in sorted(paths):
        where = str(path.relative_to(folder))
        values = {"report_id": path.stem, "study_id": path.stem}
        try:
            size = path.stat().st_size
            if size > _LONGEST_FILE:
                yield Row(where, values, f"{size} bytes is not one report")
                continue
            data = path.read_bytes()
            text = data.decode("utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig")
        except UnicodeDecodeError as error:
            yield Row(where, values, f"not UTF-8 at byte {error.start}: save it as UTF-8")
        except OSError as error:
            yield Row(where, values, error.strerror or str(error))
        else:
            values["text"] = text
            if _MIMIC_PATIENT.fullmatch(path.parent.name):
                values["patient_id"] = path.parent.name
            yield Row(where, values)
