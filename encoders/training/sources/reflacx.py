"""REFLACX: where five radiologists looked on 2 616 images of MIMIC-CXR, and what they drew.

Owns the layout of ``main_data/``: ``metadata_phase_1.csv`` to ``_3.csv`` name the readings and the
size of their images; each reading has a folder with ``fixations.csv`` and
``anomaly_location_ellipses.csv``, both in pixels of the image. An image that several radiologists
read gives several readings.

Source: Bigolin Lanfredi et al., Scientific Data 9:350 (2022). The authors spread a fixation by one
degree of sight; here by a fraction of the image's width, as for other gaze.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from encoders.annotations import Ellipses, Fixations
from encoders.training.dataset import ImageAnnotation, TrainingDataError
from encoders.training.sources.settings import Reflacx
from encoders.training.sources.tables import TableRow, read_rows

_PHASES = (1, 2, 3)
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
Size = tuple[float, float]


def read_reflacx(settings: Reflacx) -> Iterator[ImageAnnotation]:
    """One reading a radiologist and image; those without a mark that counts are left out.

    Raises:
        TrainingDataError: a file is missing or a row cannot be used; the message names it.
    """
    folder = settings.path / "main_data"
    folder = folder if folder.is_dir() else settings.path
    tables = [folder / f"metadata_phase_{phase}.csv" for phase in _PHASES]
    tables = [table for table in tables if table.exists()]
    if not tables:
        raise TrainingDataError(
            f"there is no metadata_phase_1.csv, _2 or _3 in {folder}; set the path to the folder "
            "that holds main_data"
        )
    for table in tables:
        for row in read_rows(table, needed=("id", "image", "image_size_x", "image_size_y")):
            annotation = _annotation(row, folder / row.needed("id"), settings)
            if annotation is not None:
                image = row.text("dicom_id") or PurePosixPath(row.needed("image")).stem
                yield ImageAnnotation(image, annotation, row.where)


def _annotation(row: TableRow, folder: Path, settings: Reflacx) -> Fixations | Ellipses | None:
    size = row.number("image_size_x"), row.number("image_size_y")
    if min(size) < 1:
        raise row.error(f"an image of {size[0]:g} x {size[1]:g} pixels has no place for a mark")
    if settings.marks == "ellipses":
        drawn = tuple(_ellipses(folder, size, settings.least_certainty))
        return Ellipses(drawn) if drawn else None
    if row.text("eye_tracking_data_discarded").lower() in {"true", "1"}:
        return None
    points = tuple(_fixations(folder, size))
    gaze = Fixations(points, sigma=settings.sigma, by_duration=settings.by_duration)
    return gaze if gaze.on_image else None


def _fixations(folder: Path, size: Size) -> Iterator[tuple[float, float, float]]:
    times = ("timestamp_start_fixation", "timestamp_end_fixation")
    needed = ("x_position", "y_position", *times)
    for row in read_rows(folder / "fixations.csv", needed=needed):
        start, end = (row.number(key) for key in times)
        if end < start:
            raise row.error(f"a fixation that begins at {start} s ends at {end} s")
        if end > start:
            yield (
                row.number("x_position") / size[0],
                row.number("y_position") / size[1],
                end - start,
            )


def _ellipses(folder: Path, size: Size, least: int) -> Iterator[tuple[float, float, float, float]]:
    """Those that are certain enough; a mark without certainty (a device) is no finding's."""
    table = folder / "anomaly_location_ellipses.csv"
    for row in read_rows(table, needed=(*_CORNERS, "certainty")):
        left, top, right, bottom = (row.number(key) for key in _CORNERS)
        if right <= left or bottom <= top:
            raise row.error(f"{left:g}, {top:g}, {right:g}, {bottom:g} span no ellipse")
        if row.text("certainty").lower() in {"", "nan"} or row.number("certainty") < least:
            continue
        across, down = (right - left) / 2, (bottom - top) / 2
        yield (
            (left + across) / size[0],
            (top + down) / size[1],
            across / size[0],
            down / size[1],
        )
