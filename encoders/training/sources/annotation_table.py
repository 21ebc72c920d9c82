"""Annotations in a table of your own: boxes, ellipses, fixations and masks of images.

Owns the columns; places are fractions of the image (docs/training.md).
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.annotations import Annotation, Boxes, Ellipses, Fixations, Mask
from encoders.images.image_io import ImageReadError, read_image
from encoders.training.dataset import ImageAnnotation
from encoders.training.sources.settings import AnnotationTable
from encoders.training.sources.tables import TableRow, read_rows

FRACTIONS = "places are fractions of the image: divide pixels by its width and height"
_SLACK = 0.05
"""How far a box may stick out: drawn by hand, or cut at the edge by rounding."""

_FAR = 10.0
"""A fixation this many images away is given in pixels."""


def read_annotation_table(settings: AnnotationTable) -> Iterator[ImageAnnotation]:
    """Annotations of a table: an image a row in JSONL, or a mark a row in CSV.

    Raises:
        TrainingDataError: the table cannot be read, or a row is no mark; the message names it.
    """
    folder = settings.path.parent
    for row in _by_image(read_rows(settings.path, needed=("image",))):
        marks = list(annotations(row, folder, settings))
        if not marks:
            raise row.error("has none of boxes, ellipses, fixations, mask")
        image = str(folder / row.needed("image"))
        yield from (ImageAnnotation(image, mark, row.where) for mark in marks)


def annotations(
    row: TableRow, folder: Path, gaze: AnnotationTable | None = None
) -> Iterator[Annotation]:
    """Every kind of mark that a row holds.

    Args:
        row: ``boxes``, ``ellipses``: lists of [left, top, width, height]; ``fixations``: of
            [x, y, seconds]; ``mask``: a picture's path.
        folder: what the mask's path is relative to.
        gaze: sigma and weighting of fixations, if not the usual.

    Raises:
        TrainingDataError: a mark is none; the message names the row.
    """
    if boxes := _lists(row, "boxes", _box):
        yield Boxes(boxes)
    if drawn := _lists(row, "ellipses", _box):
        yield Ellipses(tuple((x + w / 2, y + h / 2, w / 2, h / 2) for x, y, w, h in drawn))
    if points := _lists(row, "fixations", _fixation):
        if gaze is None:
            yield Fixations(points)
        else:
            yield Fixations(points, sigma=gaze.sigma, by_duration=gaze.by_duration)
    if mask := row.text("mask"):
        yield Mask(_mask(row, folder / mask))


Numbers = tuple[float, ...]


def _lists(
    row: TableRow, key: str, check: Callable[[TableRow, Numbers], None]
) -> tuple[Numbers, ...]:
    value = row.values.get(key)
    if value is None or value == "":
        return ()
    if not isinstance(value, list) or not all(isinstance(mark, list) for mark in value):
        raise row.error(f"{key} is no list of lists of numbers")
    marks = tuple(tuple(row.as_number(part, key) for part in mark) for mark in value)
    for mark in marks:
        check(row, mark)
    return marks


def _box(row: TableRow, mark: Numbers) -> None:
    if len(mark) != 4 or min(mark[2:]) <= 0:
        raise row.error(f"{mark} is no left, top, width and height above 0")
    left, top, width, height = mark
    if min(left, top) < -_SLACK or max(left + width, top + height) > 1 + _SLACK:
        raise row.error(f"{mark} lies beyond the image", cure=FRACTIONS)


def _fixation(row: TableRow, mark: Numbers) -> None:
    if len(mark) != 3 or mark[2] <= 0:
        raise row.error(f"{mark} is no x, y and seconds above 0")
    if max(abs(mark[0]), abs(mark[1])) > _FAR:
        raise row.error(f"{mark} lies far beyond the image", cure=FRACTIONS)


def _mask(row: TableRow, path: Path) -> NDArray[np.float32]:
    try:
        return read_image(path).pixels
    except ImageReadError as error:
        raise row.error(
            f"mask {path.name}: {error}", cure="give a PNG, white where marked"
        ) from None


def _by_image(rows: Iterable[TableRow]) -> Iterator[TableRow]:
    """Rows with a mark each joined, at the place of an image's first; other rows as they are."""
    images: dict[str, TableRow] = {}
    for row in rows:
        if "kind" not in row.values:
            yield row
            continue
        image, kind = row.needed("image"), row.text("kind").lower()
        if kind not in _COLUMNS:
            raise row.error(f"kind is {kind[:40]!r}, not box, ellipse or fixation")
        key, columns, check = _COLUMNS[kind]
        mark = tuple(row.number(column) for column in columns)
        check(row, mark)
        whole = images.setdefault(image, TableRow(row.where, {"image": image}))
        marks = [*whole.values.get(key, []), list(mark)]
        images[image] = TableRow(whole.where, {**whole.values, key: marks})
    yield from images.values()


_PLACE = ("x", "y", "width", "height")
_COLUMNS = {
    "box": ("boxes", _PLACE, _box),
    "ellipse": ("ellipses", _PLACE, _box),
    "fixation": ("fixations", ("x", "y", "seconds"), _fixation),
}
"""Of each kind of mark: its key in JSONL, its columns in CSV, and what is checked."""
