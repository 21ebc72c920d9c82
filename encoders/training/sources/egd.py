"""EGD-CXR: where one radiologist looked on 1 083 films of MIMIC-CXR.

Owns the layout of ``fixations.csv`` and ``master_sheet.csv``. A film was shown on a screen of
1920 x 1080 pixels with black borders whose widths are in the master sheet; a fixation is a
fraction of the screen and becomes one of the film here, so that the film itself is not needed.
Films that are not in the master sheet are the calibration pictures of a session.

Source: Karargyris et al., Scientific Data 8:92 (2021), and the authors' mapping from screen to
image (github.com/cxr-eye-gaze/eye-gaze-dataset), described in our own words in docs/training.md.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from encoders.training.data import TrainingDataError
from encoders.training.heatmaps import Fixations
from encoders.training.sources.marks import Reading, looked_at
from encoders.training.sources.settings import Egd
from encoders.training.sources.tables import Row, find_table, read_rows

SCREEN = (1920.0, 1080.0)
"""Width and height in pixels."""

_SIDES = ("left", "right", "top", "bottom")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a film lay on the screen: left, top, width, height, fractions of the screen."""

    left: float
    top: float
    width: float
    height: float

    def on_film(self, x: float, y: float) -> tuple[float, float]:
        """A place on the screen as fractions of the film; beyond [0, 1] it is beside it."""
        return (x - self.left) / self.width, (y - self.top) / self.height


def read_egd(settings: Egd) -> Iterator[Reading]:
    """One reading a film that was looked at, in the order of the table.

    Fixations marked invalid are left out.

    Raises:
        TrainingDataError: a table is missing or a row cannot be used; the message names it.
    """
    placements = _placements(settings)
    table = find_table(settings.path, "fixations.csv")
    points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    first: dict[str, str] = {}
    for row in read_rows(table, needed=("dicom_id", "fpogx", "fpogy", "fpogd")):
        film = row.needed("dicom_id")
        if film not in placements or row.text("fpogv").removesuffix(".0") == "0":
            continue
        seconds = row.number("fpogd")
        if seconds < 0:
            raise row.error(f"fpogd is {seconds}: a fixation lasts some seconds")
        if seconds > 0:
            x, y = placements[film].on_film(row.number("fpogx"), row.number("fpogy"))
            points[film].append((x, y, seconds))
            first.setdefault(film, row.where)
    if not points:
        raise TrainingDataError(
            f"no fixation of {table} is of one of the {len(placements)} films of the master sheet; "
            "both must be of one release"
        )
    for film, seen in points.items():
        if looked_at(seen):
            gaze = Fixations(tuple(seen), sigma=settings.sigma, by_duration=settings.by_duration)
            yield Reading(film, gaze, first[film])


def _placements(settings: Egd) -> dict[str, Placement]:
    table = find_table(settings.path, "master_sheet.csv")
    return {row.needed("dicom_id"): _placement(row) for row in read_rows(table, needed=_NEEDED)}


_NEEDED = ("dicom_id", *(f"image_{side}_pad" for side in _SIDES))


def _placement(row: Row) -> Placement:
    left, right, top, bottom = (row.number(f"image_{side}_pad") for side in _SIDES)
    width, height = SCREEN[0] - left - right, SCREEN[1] - top - bottom
    if min(left, right, top, bottom, width - 1, height - 1) < 0:
        raise row.error(
            f"borders of {left:g}, {right:g}, {top:g}, {bottom:g} pixels leave no film on a screen "
            f"of {SCREEN[0]:g} x {SCREEN[1]:g}"
        )
    return Placement(left / SCREEN[0], top / SCREEN[1], width / SCREEN[0], height / SCREEN[1])
