"""EGD-CXR: where one radiologist looked on 1 083 images of MIMIC-CXR.

Owns the layout of ``fixations.csv`` and ``master_sheet.csv``. An image was shown on a screen of
1920 x 1080 pixels with black borders whose widths are in the master sheet; a fixation is a
fraction of the screen and becomes one of the image here, so that the image itself is not needed.
Images that are not in the master sheet are the calibration pictures of a session.

Source: Karargyris et al., Scientific Data 8:92 (2021), and the authors' mapping from screen to
image (github.com/cxr-eye-gaze/eye-gaze-dataset), described in our own words in docs/training.md.
"""

from collections import defaultdict
from collections.abc import Iterator

from encoders.annotations import Fixations
from encoders.training.dataset import ImageAnnotation, TrainingDataError
from encoders.training.sources.settings import Egd
from encoders.training.sources.tables import find_table, read_rows

SCREEN = (1920.0, 1080.0)
"""Width and height in pixels."""

_SIDES = ("left", "right", "top", "bottom")


def read_egd(settings: Egd) -> Iterator[ImageAnnotation]:
    """One reading an image that was looked at, in the order of the table.

    Fixations marked invalid are left out.

    Raises:
        TrainingDataError: a table is missing or a row cannot be used; the message names it.
    """
    placements = _placements(settings)
    table = find_table(settings.path, "fixations.csv")
    points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    first: dict[str, str] = {}
    for row in read_rows(table, needed=("dicom_id", "fpogx", "fpogy", "fpogd")):
        image = row.needed("dicom_id")
        if image not in placements or row.text("fpogv").removesuffix(".0") == "0":
            continue
        seconds = row.number("fpogd")
        if seconds < 0:
            raise row.error(f"fpogd is {seconds}: a fixation lasts some seconds")
        if seconds > 0:
            left, top, width, height = placements[image]
            x, y = row.number("fpogx") * SCREEN[0], row.number("fpogy") * SCREEN[1]
            points[image].append(((x - left) / width, (y - top) / height, seconds))
            first.setdefault(image, row.where)
    if not points:
        raise TrainingDataError(
            f"no fixation of {table} is of one of the {len(placements)} images of the master "
            "sheet; both must be of one release"
        )
    for image, seen in points.items():
        gaze = Fixations(tuple(seen), sigma=settings.sigma, by_duration=settings.by_duration)
        if gaze.on_image:
            yield ImageAnnotation(image, gaze, first[image])


def _placements(settings: Egd) -> dict[str, tuple[float, float, float, float]]:
    """Where each image lay on the screen: left, top, width and height in its pixels."""
    pads = [f"image_{side}_pad" for side in _SIDES]
    table = find_table(settings.path, "master_sheet.csv")
    found = {}
    for row in read_rows(table, needed=("dicom_id", *pads)):
        left, right, top, bottom = (row.number(pad) for pad in pads)
        width, height = SCREEN[0] - left - right, SCREEN[1] - top - bottom
        if min(left, right, top, bottom, width - 1, height - 1) < 0:
            raise row.error(
                f"borders of {left:g}, {right:g}, {top:g}, {bottom:g} pixels leave no image on a "
                f"screen of {SCREEN[0]:g} x {SCREEN[1]:g}"
            )
        found[row.needed("dicom_id")] = (left, top, width, height)
    return found
