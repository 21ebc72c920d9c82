"""Reads lists of images (CSV, JSONL, ReXrank's JSON), and writes ReXrank's output.

The columns are documented in docs/batch.md. A list with a wrong line is refused as a whole before
any work, and every wrong line is named; unknown columns are ignored. An unknown view is not an
error: the image's header decides, and a note says so.

ReXrank's submission guide asks for ``--input_json_file --save_json_file --img_root_dir``: the
input's entries are returned unchanged, with ``model_prediction`` added. For a study without a draft
it is empty and the key ``status`` is added, so that nobody takes it for a report.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from encoders.images.image_info import is_frontal
from encoders.json_text import parse_strict
from encoders.tabular import TableError, is_missing, is_table, parse_id, printable, read_table
from rag.atomic_io import explain_disk_errors, write_text_atomic
from rag.errors import UsageError
from rag.priors import NO_PRIOR, Prior
from rag.schema import Section, Status

_MAX_SHOWN = 20  # wrong lines that are named
_MAX_ID_CHARS = 200
_MAX_TEXT_CHARS = 10_000
_IMAGE_COLUMNS = ("image", "image_path")
_VIEW_COLUMNS = ("view", "views", "frontal_lateral")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image of an input. All but the path and name come from a list, if there is one.

    Attributes:
        path: the file.
        name: used in predictions: the path within the input, with slashes.
        study_id: empty if the header decides.
        frontal: None if not stated.
        indication: why it was taken.
        patient_id: this patient's reports are never retrieved.
        chosen: this is the image to report from.
        prior: the patient's earlier study: files, report text, date.
    """

    path: Path
    name: str
    study_id: str = ""
    frontal: bool | None = None
    indication: str = ""
    patient_id: str = ""
    chosen: bool = False
    prior: Prior = NO_PRIOR


@dataclass(slots=True)
class Listing:
    """The images of an input.

    Attributes:
        images: in a fixed order.
        skipped: other files, counted by kind ("no image", "hidden").
        problems: what could not be read, one sentence each.
    """

    images: list[ListedImage] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class _ListRowError(ValueError):
    """A row cannot be used; the message says why."""


def read_list(path: Path, *, root: Path) -> Listing:
    """The images of a .csv, .jsonl or .json list.

    ``root`` is the folder of its relative paths, and of absolute ones that do not exist.

    Raises:
        UsageError: names what is wrong with each wrong line.
    """
    images: list[ListedImage] = []
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    unknown_views: Counter[str] = Counter()
    for where, row in _rows(path, problems):
        try:
            row_images = _row_images(row, root, unknown_views)
        except _ListRowError as error:
            problems.append(f"{where}: {error}")
            continue
        for image in row_images:
            if (image.study_id, image.name) in seen:
                problems.append(f"{where}: names the image {image.name!r} of this study again")
            seen.add((image.study_id, image.name))
        images.extend(row_images)
    if problems:
        more = f"\n... and {len(problems) - _MAX_SHOWN} more" if len(problems) > _MAX_SHOWN else ""
        lines = "\n".join(printable(problem) for problem in problems[:_MAX_SHOWN])
        raise UsageError(f"{path} cannot be used:\n{lines}{more}")
    if not images:
        raise UsageError(f"{path} lists no image")
    notes = []
    if unknown_views:
        shown = ", ".join(
            f"{json.dumps(view[:40])} ({count})" for view, count in unknown_views.most_common(5)
        )
        notes.append(printable(f"unknown views, so that the headers decide: {shown}"))
    return Listing(images, problems=notes)


def read_studies_json(path: Path) -> dict[str, dict[str, Any]]:
    """ReXrank's file: an object of studies by their id, each with ``image_path``.

    Raises:
        UsageError: the file is not one.
    """
    try:
        values = parse_strict(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except ValueError as error:
        raise UsageError(f"{path} {error}") from error
    if not isinstance(values, dict) or not all(isinstance(row, dict) for row in values.values()):
        raise UsageError(f"{path} is not a JSON object of studies by their id, as ReXrank's are")
    return values


def _rows(path: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and values of each row."""
    if not is_table(path):
        for study_id, row in read_studies_json(path).items():
            yield f"study {study_id}", {**row, "study_id": study_id}
        return
    try:
        for line in read_table(path, required=("study_id", _IMAGE_COLUMNS), strict=True):
            if line.problem:
                problems.append(f"{line.where}: {line.problem}")
            else:
                yield line.where, line.values
    except TableError as error:
        raise UsageError("\n".join(map(printable, str(error).split("\n")))) from error


def _row_images(row: dict[str, Any], root: Path, unknown_views: Counter[str]) -> list[ListedImage]:
    study_id = _id(row, "study_id")
    if not study_id:
        raise _ListRowError("has no study_id")
    names = _texts(row, _IMAGE_COLUMNS)
    if not names:
        raise _ListRowError("names no image: its column is called image")
    views = _row_views(row) or [""] * len(names)
    if len(views) != len(names):
        raise _ListRowError(f"has {len(names)} images and {len(views)} views")
    indication = _text(row, "indication") or _text(row, "context")
    patient_id = _id(row, "patient_id")
    key_image = _text(row, "key_image_path")
    prior = Prior(
        report=_text(row, "prior_report"),
        date=_parse_date(row),
        files=tuple(_resolve_path(name, root) for name in _texts(row, ("prior",))),
    )
    stated = (view.strip() for view in views if not is_missing(view) and view.upper() != "UNKNOWN")
    unknown_views.update(view for view in stated if is_frontal(view) is None)
    return [
        ListedImage(
            path=_resolve_path(name, root),
            name=name,
            study_id=study_id,
            frontal=is_frontal(view),
            indication=indication,
            patient_id=patient_id,
            chosen=name == key_image,
            prior=prior,
        )
        for name, view in zip(names, views, strict=True)
    ]


def _resolve_path(name: str, root: Path) -> Path:
    """The file that a list names. ReXrank's names start with a slash but are relative to the root.

    `os.access` returns False for a name that is too long; `Path.exists` raises.
    """
    path = root / name
    return path if os.access(path, os.F_OK) else root / name.lstrip("/")


def _id(row: dict[str, Any], column: str) -> str:
    try:
        value = parse_id(row.get(column))
    except ValueError as error:
        raise _ListRowError(f"{column} {error}") from error
    if len(value) > _MAX_ID_CHARS or not value.isprintable():
        raise _ListRowError(
            f"has a {column} that is longer than {_MAX_ID_CHARS} characters or unprintable"
        )
    return value


def _texts(row: dict[str, Any], columns: tuple[str, ...]) -> list[str]:
    """One text or a list of texts, from the first of these columns that is not empty."""
    for column in columns:
        value = row.get(column)
        if is_missing(value):
            continue
        values = value if isinstance(value, list) else [value]
        texts = [text for text in values if isinstance(text, str) and text.strip()]
        if len(texts) < len(values) or any("\0" in text for text in texts):
            raise _ListRowError(f"{column} is neither a text nor a list of texts")
        return texts
    return []


def _row_views(row: dict[str, Any]) -> list[str]:
    """Views from the first of their columns that is not empty; "" for what is not a text."""
    value: Any = next((row[name] for name in _VIEW_COLUMNS if not is_missing(row.get(name))), [])
    values = value if isinstance(value, list) else [value]
    return [view.replace("\0", " ") if isinstance(view, str) else "" for view in values]


def _parse_date(row: dict[str, Any]) -> str:
    value = _text(row, "prior_date")
    try:
        return date.fromisoformat(value).isoformat() if value else ""
    except ValueError as error:
        raise _ListRowError(
            f"prior_date is not a date: write it as 2026-03-01 ({error})"
        ) from error


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if is_missing(value):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _ListRowError(f"{column} is a {type(value).__name__}, not text")
    if len(value) > _MAX_TEXT_CHARS:
        raise _ListRowError(f"{column} has {len(value)} characters, more than {_MAX_TEXT_CHARS}")
    return value.strip()


def work_folder(save_json_file: Path) -> Path:
    """The output folder of the batch behind ReXrank's output file, where it resumes.

    Raises:
        UsageError: the file exists, and no batch of ours wrote it.
    """
    folder = save_json_file.with_name(save_json_file.name + ".batch")
    if save_json_file.exists() and not folder.is_dir():
        raise UsageError(
            f"{save_json_file} exists and was not written by a batch of ours: choose another "
            "--save_json_file"
        )
    return folder


def write_rexrank(input_json_file: Path, save_json_file: Path, predictions: Path) -> int:
    """Write ReXrank's output for all studies that have a prediction; returns how many.

    Raises:
        OutputError: the file cannot be written.
    """
    drafts = {line.values["study_id"]: line.values for line in read_table(predictions, strict=True)}
    studies = read_studies_json(input_json_file)
    filled = {
        study_id: {**entry, **_model_prediction(drafts[study_id.strip()])}
        for study_id, entry in studies.items()
        if study_id.strip() in drafts
    }
    with explain_disk_errors(save_json_file):
        write_text_atomic(save_json_file, json.dumps(filled, indent=4, ensure_ascii=False) + "\n")
    return len(filled)


def _model_prediction(draft: dict[str, Any]) -> dict[str, str]:
    """In the form of ReXrank's reference reports: "Findings: ... Impression: ..."."""
    if draft["status"] != Status.OK:
        return {"model_prediction": "", "status": draft["status"]}
    texts = {s: " ".join(sentence["text"] for sentence in draft[s.value]) for s in Section}
    sections = (f"{s.value.capitalize()}: {text}" for s, text in texts.items() if text)
    return {"model_prediction": " ".join(sections)}
