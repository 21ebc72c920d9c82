"""A report collection in memory, and the lists beside it: excluded studies, images of studies.

Owns what all readers share: ids, hashes, and which study an image's path names. Does not know where
reports come from (`rag.corpus.openi`, `rag.corpus.user_collection`), nor encoders, nor the index.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from encoders.tabular import TableError, is_missing, is_table, parse_id, printable, read_table
from rag.errors import CorpusError
from rag.schema import ReportRecord, Section, Span

_SECTIONS = {section.value: section for section in Section}  # three times as fast as Section(name)
_STUDY_COLUMNS = ("study_id", "studyid")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one report was skipped or repaired. Contains no report text.

    Attributes:
        where: the line ("line 17"), file or archive member.
        reason: what is wrong, and what to do.
        report_id: if known.
    """

    where: str
    reason: str
    report_id: str = ""

    def __str__(self) -> str:
        report_id = f" ({self.report_id})" if self.report_id else ""
        return printable(f"{self.where}{report_id}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Corpus:
    """A collection of reports, ready to be indexed.

    Attributes:
        name: of the collection in the index; an index may hold several.
        licence, attribution: shown wherever its reports are shown.
        records: sorted by report id, each with its ``collection`` set to ``name``.
        problems: what was skipped or repaired.
        warnings: about the collection as a whole ("no patient ids: ...").
    """

    name: str
    licence: str
    attribution: str
    records: tuple[ReportRecord, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...] = ()


def make_corpus(
    name: str,
    *,
    records: Iterable[ReportRecord],
    licence: str = "",
    attribution: str = "",
    problems: Iterable[Problem] = (),
    warnings: Iterable[str] = (),
) -> Corpus:
    """Sort the records and set their collection.

    Raises:
        ValueError: two records have the same id; readers list the second as a problem.
    """
    named = sorted(
        (replace(record, collection=name) for record in records), key=lambda r: r.report_id
    )
    for record, following in pairwise(named):
        if record.report_id == following.report_id:
            raise ValueError(f"two records have the id {record.report_id!r}")
    return Corpus(name, licence, attribution, tuple(named), tuple(problems), tuple(warnings))


def fingerprint(records: Iterable[ReportRecord]) -> str:
    """SHA-256 over records in the given order (callers sort by report id)."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record_hash(record).encode())
    return digest.hexdigest()


def record_hash(record: ReportRecord) -> str:
    """SHA-256 over every field of a record."""
    return _sha256(json.dumps(record_to_json(record), sort_keys=True, ensure_ascii=False))


def text_hash(text: str) -> str:
    """Id of an exact text."""
    return _sha256(text)[:32]


def record_to_json(record: ReportRecord) -> dict[str, Any]:
    """A record as one JSON object; `record_from_json` is its inverse."""
    values = {
        **{field.name: getattr(record, field.name) for field in fields(record)},
        "labels": list(record.labels),
        "sentences": [[span.section.value, span.start, span.end] for span in record.sentences],
    }
    stated = values.pop("stated")  # None in records that were not labelled, as in older indexes
    return values if stated is None else {**values, "stated": list(stated)}


def record_from_json(values: dict[str, Any]) -> ReportRecord:
    """The record that `record_to_json` wrote.

    Raises:
        TypeError, ValueError, KeyError: it did not write this.
    """
    spans = tuple(Span(_SECTIONS[name], start, end) for name, start, end in values["sentences"])
    lists: dict[str, Any] = {
        name: tuple(values[name]) for name in ("labels", "stated") if name in values
    }
    return ReportRecord(**{**values, **lists, "sentences": spans})


def ids_in_path(path: str | PurePath, known_ids: Container[str]) -> frozenset[str]:
    """Study (or patient) ids that a path names, so that an image never retrieves its own report.

    A path component names an id if it equals it, or starts with it followed by a character that is
    neither letter nor digit: ``images/CXR330_IM-1577-0001.jpg`` names CXR330, not CXR33. Within one
    component the longest id wins. ``known_ids`` may be just those of `candidate_ids` that exist.
    """
    found = (next((id_ for id_ in ids if id_ in known_ids), "") for ids in _prefixes(path))
    return frozenset(found) - {""}


def candidate_ids(path: str | PurePath) -> frozenset[str]:
    """Everything in a path that could be an id, for a caller that has to look them up."""
    return frozenset[str]().union(*_prefixes(path))


def study_id_in_path(path: str | PurePath, known_study_ids: Container[str]) -> str | None:
    """The longest id of `ids_in_path`, or None."""
    ids = ids_in_path(path, known_study_ids)
    return max(ids, key=lambda study_id: (len(study_id), study_id), default=None)


def _prefixes(path: str | PurePath) -> list[list[str]]:
    """Each path component with its prefixes that end before a separator, longest first."""
    return [
        [part, *(part[:end] for end in range(len(part) - 1, 0, -1) if not part[end].isalnum())]
        for part in str(path).replace("\\", "/").split("/")
    ]


def _sha256(text: str) -> str:
    # no reader lets surrogates through, which cannot be encoded, but hashing must not fail
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_exclude_file(path: Path) -> frozenset[str]:
    """Study ids from a table with a column study_id, or from a text file with one id per line.

    In a text file "#" starts a comment.

    Raises:
        CorpusError: the file cannot be read, contains no study id, or a row lacks one.
    """
    if is_table(path):
        study_ids = frozenset(study_id for _, study_id, _ in _rows(path))
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{path} cannot be read: {error}") from error
        study_ids = frozenset(line.partition("#")[0].strip() for line in lines) - {""}
    if not study_ids:
        raise CorpusError(f"{path} names no study")
    return study_ids


def read_images_file(path: Path) -> dict[str, tuple[Path, ...]]:
    """Images by study id from a table with the columns study_id and image, one image per row.

    Also reads PadChest's own table: StudyID, ImageID and ImageDir. Paths are relative to the file's
    folder; whether an image exists is checked at indexing.

    Raises:
        CorpusError: the file cannot be read, a column is missing, or a row lacks a value.
    """
    images: dict[str, list[Path]] = {}
    for where, study_id, values in _rows(path, ("image", "imageid")):
        image = values.get("image")
        if "imageid" in values:
            image = f"{values.get('imagedir', '.')}/{values['imageid']}"
        if is_missing(image) or not isinstance(image, str):
            raise CorpusError(f"{path} {where}: no image")
        images.setdefault(study_id, []).append(path.parent / image.strip())
    return {study_id: tuple(dict.fromkeys(paths)) for study_id, paths in images.items()}


def _rows(path: Path, *required: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place, study id and values of each row."""
    try:
        for row in read_table(path, required=(_STUDY_COLUMNS, *required)):
            if row.problem:
                raise CorpusError(f"{path} {row.where} cannot be read: {row.problem}")
            try:
                ids = (parse_id(row.values.get(column)) for column in _STUDY_COLUMNS)
                study_id = next(filter(None, ids), "")
            except ValueError as error:
                raise CorpusError(f"{path} {row.where}: study_id {error}") from error
            if not study_id:
                raise CorpusError(f"{path} {row.where}: no study_id")
            yield row.where, study_id, row.values
    except (OSError, TableError) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
