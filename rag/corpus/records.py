"""A report collection in memory: records, problems, licence, and lists beside it.

Owns what all readers share (ids, hashes, the image-to-study rule). Does not know where reports come
from (`rag.corpus.openi`, `rag.corpus.user_collection`), nor encoders, nor the store.
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

_SECTIONS = {section.value: section for section in Section}  # three times as quick as Section(name)


@dataclass(frozen=True, slots=True)
class Problem:
    """One report that was left out, or a text that was mended, and why. Holds no report text.

    Attributes:
        where: the line ("line 17"), file or archive member, as a reader can find it.
        reason: what is wrong with it, and what to do.
        report_id: the report's id where it is known.
    """

    where: str
    reason: str
    report_id: str = ""

    def __str__(self) -> str:
        named = f" ({self.report_id})" if self.report_id else ""
        return printable(f"{self.where}{named}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Corpus:
    """A collection of reports, ready to be indexed.

    Attributes:
        name: what it is called in the store; a store may hold several collections.
        licence, attribution: shown to users wherever its reports are shown.
        records: sorted by report id, each with its ``collection`` set to ``name``.
        problems: what was left out, and why.
        warnings: what holds for the collection as a whole ("no patient ids: ...").
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
    """Sort the records and stamp the collection's name on them.

    Raises:
        ValueError: two records have one id; readers list the second as a problem.
    """
    stamped = sorted(
        (replace(record, collection=name) for record in records), key=lambda r: r.report_id
    )
    for one, other in pairwise(stamped):
        if one.report_id == other.report_id:
            raise ValueError(f"two records have the id {one.report_id!r}")
    return Corpus(
        name=name,
        licence=licence,
        attribution=attribution,
        records=tuple(stamped),
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def fingerprint(records: Iterable[ReportRecord]) -> str:
    """SHA-256 over records in the order given (callers sort by report id)."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record_hash(record).encode())
    return digest.hexdigest()


def record_hash(record: ReportRecord) -> str:
    """SHA-256 over every field of a record: equal if and only if nothing has changed."""
    return _sha256(json.dumps(record_to_json(record), sort_keys=True, ensure_ascii=False))


def text_hash(text: str) -> str:
    """Name of an exact text: equal if and only if the texts are equal, word for word."""
    return _sha256(text)[:32]


def record_to_json(record: ReportRecord) -> dict[str, Any]:
    """A record as one JSON object; `record_from_json` is its inverse."""
    values = {
        **{field.name: getattr(record, field.name) for field in fields(record)},
        "labels": list(record.labels),
        "sentences": [[span.section.value, span.start, span.end] for span in record.sentences],
    }
    stated = values.pop("stated")  # absent where nobody has read it, as in stores of before
    return values if stated is None else {**values, "stated": list(stated)}


def record_from_json(values: dict[str, Any]) -> ReportRecord:
    """A record from what `record_to_json` made of it.

    Raises:
        TypeError, ValueError, KeyError: it is not such an object.
    """
    spans = tuple(Span(_SECTIONS[name], start, end) for name, start, end in values["sentences"])
    lists: dict[str, Any] = {
        name: tuple(values[name]) for name in ("labels", "stated") if name in values
    }
    return ReportRecord(**{**values, **lists, "sentences": spans})


def ids_in_path(path: str | PurePath, known_ids: Container[str]) -> frozenset[str]:
    """Study (or patient) ids that a path names, so that an image never retrieves its own report.

    A part of the path names an id if it equals it, or begins with it and goes on with a character
    that is neither letter nor digit: ``images/CXR330_IM-1577-0001.jpg`` names CXR330, and not
    CXR33. Within one part the longest id wins.

    Args:
        path: as the user gave it, either slash.
        known_ids: all ids, or those of `candidate_ids` that are some.
    """
    named = (next((name for name in names if name in known_ids), "") for names in _parts(path))
    return frozenset(named) - {""}


def candidate_ids(path: str | PurePath) -> frozenset[str]:
    """Whatever a path could name, for a caller that has to look up which of it are ids."""
    return frozenset[str]().union(*_parts(path))


def study_id_in_path(path: str | PurePath, known_study_ids: Container[str]) -> str | None:
    """The one study an image's path names: the longest id of `ids_in_path`, or None."""
    named = ids_in_path(path, known_study_ids)
    return max(named, key=lambda name: (len(name), name), default=None)


def _parts(path: str | PurePath) -> list[list[str]]:
    """Each part of a path and its beginnings that end before a separator, longest first."""
    return [
        [part, *(part[:end] for end in range(len(part) - 1, 0, -1) if not part[end].isalnum())]
        for part in str(path).replace("\\", "/").split("/")
    ]


def _sha256(text: str) -> str:
    # surrogates cannot be encoded, and no reader lets them through; a hash must still not fail
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_STUDIES = ("study_id", "studyid")


def read_exclude_file(path: Path) -> frozenset[str]:
    """Study ids from a table with a column study_id, or from any other file with one id a line.

    In a file that is no table "#" begins a comment.

    Raises:
        CorpusError: the file cannot be read, names no study, or a line has no study id.
    """
    if is_table(path):
        named = frozenset(study for _, study, _ in _rows(path))
    else:
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{path} cannot be read: {error}") from error
        named = frozenset(line.partition("#")[0].strip() for line in lines) - {""}
    if not named:
        raise CorpusError(f"{path} names no study")
    return named


def read_images_file(path: Path) -> dict[str, tuple[Path, ...]]:
    """Images by study id from a table with the columns study_id and image, a line an image.

    PadChest's own table will do: StudyID, ImageID and ImageDir. Paths are relative to the file's
    folder; whether an image is there is seen when it is indexed.

    Raises:
        CorpusError: the file cannot be read, a column is missing, or a line lacks a value.
    """
    images: dict[str, list[Path]] = {}
    for where, study, values in _rows(path, ("image", "imageid")):
        image = values.get("image")
        if "imageid" in values:
            image = f"{values.get('imagedir', '.')}/{values['imageid']}"
        if is_missing(image) or not isinstance(image, str):
            raise CorpusError(f"{path} {where}: no image")
        images.setdefault(study, []).append(path.parent / image.strip())
    return {study: tuple(dict.fromkeys(paths)) for study, paths in images.items()}


def _rows(path: Path, *needed: tuple[str, ...]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place, study id and values of each row."""
    try:
        for row in read_table(path, required=(_STUDIES, *needed)):
            if row.problem:
                raise CorpusError(f"{path} {row.where} cannot be read: {row.problem}")
            try:
                study = next(filter(None, (parse_id(row.values.get(n)) for n in _STUDIES)), "")
            except ValueError as error:
                raise CorpusError(f"{path} {row.where}: study_id {error}") from error
            if not study:
                raise CorpusError(f"{path} {row.where}: no study_id")
            yield row.where, study, row.values
    except (OSError, TableError) as error:
        raise CorpusError(f"{path} cannot be read: {error}") from error
