"""Lists of images, as people and benchmarks write them: CSV, JSONL, and ReXrank's JSON in and out.

Strict: a list with a wrong line is refused as a whole, before any work, and every wrong line is
named. Columns: ``study_id`` and ``image`` (a path; in JSON also a list of paths; ReXrank calls it
``image_path``), and if wanted ``view``, ``indication`` (or ``context``), ``patient_id``, and of the
patient's earlier study ``prior`` (paths), ``prior_report`` (text), ``prior_date``; others are let
pass. A view that is not known is no wrong line: the image's own header decides, and a note says so.

ReXrank's submission guide asks for ``--input_json_file --save_json_file --img_root_dir``: the
input's entries come back as they were, with ``model_prediction``. A study without a draft has an
empty one and the key ``status``, so that nobody takes it for a report.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from encoders.images.image_info import is_frontal
from encoders.json_text import parse_strict
from encoders.tabular import TableError, is_missing, is_table, parse_id, printable, read_table
from rag.atomic_io import explain_disk_errors, write_text_atomic
from rag.batch.inputs import ListedImage, Listing
from rag.errors import UsageError
from rag.priors import Prior
from rag.schema import Section, Status

_SHOWN = 20  # wrong lines that are named
_LONGEST_ID = 200
_LONGEST_TEXT = 10_000
_IMAGES = ("image", "image_path")
_VIEWS = ("view", "views", "frontal_lateral")

Row = tuple[str, dict[str, Any]]
"""Where it stands, and what it says."""


class _ListRowError(ValueError):
    """What is wrong with one row."""


def read_list(path: Path, *, root: Path) -> Listing:
    """The images of a list.

    Args:
        path: .csv, .jsonl or .json.
        root: what relative paths in it are relative to, and absolute ones that lead nowhere.

    Raises:
        UsageError: names what is wrong with each wrong line.
    """
    images: list[ListedImage] = []
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    views: Counter[str] = Counter()
    for where, row in _rows(path, problems):
        try:
            found = _images(row, root, views)
        except _ListRowError as error:
            problems.append(f"{where}: {error}")
            continue
        for image in found:
            if (image.study_id, image.name) in seen:
                problems.append(f"{where}: names the image {image.name!r} of this study again")
            seen.add((image.study_id, image.name))
        images.extend(found)
    if problems:
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        lines = "\n".join(printable(problem) for problem in problems[:_SHOWN])
        raise UsageError(f"{path} cannot be used:\n{lines}{more}")
    if not images:
        raise UsageError(f"{path} lists no image")
    return Listing(images, problems=_about_unknown(views))


def read_studies_json(path: Path) -> dict[str, dict[str, Any]]:
    """ReXrank's file: an object of studies by their id, each with ``image_path``.

    Raises:
        UsageError: it is none.
    """
    try:
        values = parse_strict(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except ValueError as error:
        raise UsageError(f"{path} {error}") from error
    if not isinstance(values, dict) or not all(isinstance(row, dict) for row in values.values()):
        raise UsageError(f"{path} is no JSON object of studies by their id, as ReXrank's are")
    return values


def _rows(path: Path, problems: list[str]) -> Iterator[Row]:
    if not is_table(path):
        for study_id, row in read_studies_json(path).items():
            yield f"study {study_id}", {**row, "study_id": study_id}
        return
    try:
        for line in read_table(path, required=("study_id", _IMAGES), strict=True):
            if line.problem:
                problems.append(f"{line.where}: {line.problem}")
            else:
                yield line.where, line.values
    except TableError as error:
        raise UsageError("\n".join(map(printable, str(error).split("\n")))) from error


def _about_unknown(views: Counter[str]) -> list[str]:
    if not views:
        return []
    shown = ", ".join(f"{json.dumps(view[:40])} ({count})" for view, count in views.most_common(5))
    return [printable(f"views that are not known, so that the headers decide: {shown}")]


def _images(row: dict[str, Any], root: Path, unknown_views: Counter[str]) -> list[ListedImage]:
    study_id = _identifier(row, "study_id")
    if not study_id:
        raise _ListRowError("has no study_id")
    files = _strings(row, _IMAGES)
    if not files:
        raise _ListRowError("names no image: its column is called image")
    views = _views(row) or [""] * len(files)
    if len(views) != len(files):
        raise _ListRowError(f"has {len(files)} images and {len(views)} views")
    indication = _string(row, "indication") or _string(row, "context")
    patient_id = _identifier(row, "patient_id")
    key = _string(row, "key_image_path")
    prior = Prior(
        report=_string(row, "prior_report"),
        date=_date(row),
        files=tuple(_file(name, root) for name in _strings(row, ("prior",))),
    )
    named = (view.strip() for view in views if not is_missing(view) and view.upper() != "UNKNOWN")
    unknown_views.update(view for view in named if is_frontal(view) is None)
    return [
        ListedImage(
            path=_file(name, root),
            name=name,
            study_id=study_id,
            frontal=is_frontal(view),
            indication=indication,
            patient_id=patient_id,
            chosen=name == key,
            prior=prior,
        )
        for name, view in zip(files, views, strict=True)
    ]


def _file(name: str, root: Path) -> Path:
    """The file that a list names. ReXrank's names begin with a slash and are meant within the root.

    `os.access` finds no file under a name that is too long; `Path.exists` raises.
    """
    path = root / name
    return path if os.access(path, os.F_OK) else root / name.lstrip("/")


def _identifier(row: dict[str, Any], name: str) -> str:
    try:
        value = parse_id(row.get(name))
    except ValueError as error:
        raise _ListRowError(f"{name} {error}") from error
    if len(value) > _LONGEST_ID or not value.isprintable():
        raise _ListRowError(
            f"has a {name} that is longer than {_LONGEST_ID} letters or unprintable"
        )
    return value


def _strings(row: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """One text or a list of texts, under the first of these names that is there."""
    for name in names:
        value = row.get(name)
        if is_missing(value):
            continue
        values = value if isinstance(value, list) else [value]
        texts = [one for one in values if isinstance(one, str) and one.strip() and "\0" not in one]
        if len(texts) < len(values):
            raise _ListRowError(f"{name} is neither a text nor a list of texts")
        return texts
    return []


def _views(row: dict[str, Any]) -> list[str]:
    """Views under the first of their names that is there; what is no text is empty."""
    value: Any = next((row[name] for name in _VIEWS if not is_missing(row.get(name))), [])
    values = value if isinstance(value, list) else [value]
    return [one.replace("\0", " ") if isinstance(one, str) else "" for one in values]


def _date(row: dict[str, Any]) -> str:
    value = _string(row, "prior_date")
    try:
        return date.fromisoformat(value).isoformat() if value else ""
    except ValueError as error:
        raise _ListRowError(f"prior_date is no date: write it as 2026-03-01 ({error})") from error


def _string(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if is_missing(value):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise _ListRowError(f"{name} is a {type(value).__name__}, not a text")
    if len(value) > _LONGEST_TEXT:
        raise _ListRowError(f"{name} has {len(value)} letters, more than {_LONGEST_TEXT}")
    return value.strip()


def work_folder(save_json_file: Path) -> Path:
    """Where the batch behind an output file works, and resumes."""
    return save_json_file.with_name(save_json_file.name + ".batch")


def refuse_foreign_file(save_json_file: Path) -> None:
    """An output file that no batch of ours has made is not overwritten.

    Raises:
        UsageError: there is one.
    """
    if save_json_file.exists() and not work_folder(save_json_file).is_dir():
        raise UsageError(
            f"{save_json_file} exists and was not made by a batch of ours: choose another "
            "--save_json_file"
        )


def write_rexrank(input_json_file: Path, save_json_file: Path, predictions: Path) -> int:
    """Write ReXrank's output for all studies that have a prediction; returns how many.

    Raises:
        OutputError: the file cannot be written.
    """
    drafts = {line.values["study_id"]: line.values for line in read_table(predictions, strict=True)}
    studies = read_studies_json(input_json_file)
    filled = {
        study_id: {**entry, **_prediction(drafts[study_id.strip()])}
        for study_id, entry in studies.items()
        if study_id.strip() in drafts
    }
    with explain_disk_errors(save_json_file):
        write_text_atomic(save_json_file, json.dumps(filled, indent=4, ensure_ascii=False) + "\n")
    return len(filled)


def _prediction(draft: dict[str, Any]) -> dict[str, str]:
    """As ReXrank's reference reports are written: "Findings: ... Impression: ..."."""
    if draft["status"] != Status.OK:
        return {"model_prediction": "", "status": draft["status"]}
    texts = {s: " ".join(sentence["text"] for sentence in draft[s.value]) for s in Section}
    written = (f"{s.value.capitalize()}: {text}" for s, text in texts.items() if text)
    return {"model_prediction": " ".join(written)}
