"""Where a reader looked or drew on the frontal image, as it is asked for and as it is recorded.

Owns the form and its limits. Places are fractions of the image as it is stored, upright or not, so
that a record holds no pixel. `encoders.annotations` makes the heatmap.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.annotations import Annotation, Boxes, Fixations, render
from rag.errors import CxrRagError

MOST_BOXES = 8
MOST_FIXATIONS = 5000
LEAST_SIDE = 0.01
"""Of a box, as a fraction of the image: less was a slip of the hand."""

HEAT_SIDE = 256
"""Of the heatmap in pixels; no encoder here looks at images larger than that."""

_DIGITS = 4

Row = tuple[float, ...]


class RegionError(CxrRagError):
    """A region or gaze that is none; the message says what is wrong and what it should be."""


@dataclass(frozen=True, slots=True)
class ReaderRegion:
    """A region, a gaze, or both.

    Attributes:
        boxes: (left, top, width, height) each, within the image.
        fixations: (x, y, seconds) each; beside the image they only leave their tail on it.
    """

    boxes: tuple[Row, ...] = ()
    fixations: tuple[Row, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.boxes or self.fixations)

    def heatmap(self) -> NDArray[np.float32]:
        """float32 [256, 256] in [0, 1] over the whole image, whatever its shape."""
        marks: list[Annotation] = []
        if self.boxes:
            marks.append(Boxes(self.boxes))
        if self.fixations:
            marks.append(Fixations(self.fixations))
        maps = [render(mark, height=HEAT_SIDE, width=HEAT_SIDE) for mark in marks]
        return np.max(maps, axis=0) if maps else np.zeros((HEAT_SIDE, HEAT_SIDE), np.float32)

    def to_json(self) -> dict[str, Any]:
        """What is kept: fractions with four digits; empty where there is nothing."""
        return {
            name: [list(row) for row in rows]
            for name, rows in (("boxes", self.boxes), ("fixations", self.fixations))
            if rows
        }

    @classmethod
    def from_json(cls, values: Any) -> "ReaderRegion":
        """What `to_json` wrote, or what a browser or program sent; an empty object is nowhere.

        Raises:
            RegionError: no such object, not numbers, too many, or not on the image.
        """
        if not isinstance(values, Mapping) or not values.keys() <= {"boxes", "fixations"}:
            raise RegionError(
                f"a region is {str(values)[:60]}, not an object like "
                '{"boxes": [[left, top, width, height]], "fixations": [[x, y, seconds]]}'
            )
        boxes = tuple(_box(row) for row in _rows(values.get("boxes", ()), "boxes", 4, MOST_BOXES))
        return cls(boxes, tuple(_rows(values.get("fixations", ()), "fixations", 3, MOST_FIXATIONS)))


NO_REGION = ReaderRegion()


def _box(row: Row) -> Row:
    """A box cut to the image."""
    x, y, width, height = row
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    right, bottom = min(max(x + width, 0.0), 1.0), min(max(y + height, 0.0), 1.0)
    if right - left < LEAST_SIDE or bottom - top < LEAST_SIDE:
        raise RegionError(
            f"the box {row} is less than {LEAST_SIDE:.0%} of the image wide or high: draw it larger"
        )
    return tuple(round(value, _DIGITS) for value in (left, top, right - left, bottom - top))


def _rows(values: Any, name: str, length: int, most: int) -> Iterable[Row]:
    if not isinstance(values, list | tuple) or len(values) > most:
        raise RegionError(f"{name} must be a list of at most {most}")
    for row in values:
        numbers = _numbers(row) if isinstance(row, list | tuple) else ()
        if len(numbers) != length or (length == 3 and numbers[2] <= 0):
            raise RegionError(
                f"one of the {name} is {str(row)[:60]}, not {length} finite numbers"
                + (" with seconds above 0" if length == 3 else "")
            )
        yield numbers


def _numbers(row: list[Any] | tuple[Any, ...]) -> Row:
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in row):
        return ()
    if not all(abs(value) < 1e6 for value in row):  # NaN is not less, and no float is so large
        return ()
    return tuple(round(float(value), _DIGITS) for value in row)
