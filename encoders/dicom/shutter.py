"""The display shutter: what the technologist collimated away on screen.

Owns the geometry of PS3.3 C.7.6.11. What lies outside is not shown (here: black), and takes no
part in the choice of a window.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from encoders.dicom.header import codes, number, numbers

Mask = NDArray[np.bool_]

_EDGES = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")

LEAST_OPEN = 0.01
"""A shutter that leaves less than this share of the image open is a mistake, not a collimation."""


def outside_shutter(
    dataset: Dataset, rows: int, columns: int
) -> tuple[Mask | None, tuple[str, ...]]:
    """True where a pixel is shuttered: bool [rows, columns], or None without a shutter.

    Several shapes may be given; a pixel is shown where it is inside all of them. Rows and
    columns count from 1, and the edges named are shown.

    Returns:
        The mask, and warnings about shutters that were left out.
    """
    mask: Mask | None = None
    warnings: list[str] = []
    for shape in codes(dataset, "ShutterShape"):
        inside = _INSIDE[shape](dataset, rows, columns) if shape in _INSIDE else None
        if inside is None or inside.mean() < LEAST_OPEN:
            warnings.append("a shutter of the file is incomplete or covers all: not used")
            continue
        mask = ~inside if mask is None else mask | ~inside
    if mask is not None and not mask.any():
        mask = None
    return mask, tuple(warnings)


def _rectangle(dataset: Dataset, rows: int, columns: int) -> Mask | None:
    edges = [number(dataset, f"Shutter{edge}Edge") for edge in _EDGES]
    if None in edges:
        return None
    left, right, upper, lower = (max(int(edge), 0) for edge in edges if edge is not None)
    inside = np.zeros((rows, columns), dtype=np.bool_)
    inside[max(upper - 1, 0) : lower, max(left - 1, 0) : right] = True
    return inside


def _circle(dataset: Dataset, rows: int, columns: int) -> Mask | None:
    centre = numbers(dataset, "CenterOfCircularShutter")
    radius = number(dataset, "RadiusOfCircularShutter")
    if len(centre) != 2 or radius is None:
        return None
    down = np.arange(1, rows + 1, dtype=np.float64)[:, None] - centre[0]
    right = np.arange(1, columns + 1, dtype=np.float64)[None, :] - centre[1]
    return np.asarray(down**2 + right**2 <= radius**2)


def _polygon(dataset: Dataset, rows: int, columns: int) -> Mask | None:
    vertices = numbers(dataset, "VerticesOfThePolygonalShutter")
    if len(vertices) < 6 or len(vertices) % 2:
        return None
    corners = [
        (column - 1, row - 1) for row, column in zip(vertices[::2], vertices[1::2], strict=True)
    ]
    canvas = Image.new("1", (columns, rows))
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.asarray(canvas)


_INSIDE = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
