"""A DICOM file to an image: the order of the steps, and what the header says about the image.

Owns the sequence parse, check, decode, grey scale, and the descriptive facts (view, spacing,
modality, body part). The steps themselves are in `encoders.dicom.header`, `dicom_pixels`,
`dicom_codecs` and `dicom_grey`; together these modules are the only ones that import pydicom.
"""

from collections.abc import Iterable
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.uid import UID

from encoders.base import View
from encoders.dicom.greyscale import grey_image
from encoders.dicom.header import code, items, numbers, overlays, parse, word
from encoders.dicom.layout import read_layout, tag
from encoders.dicom.pixels import stored_values
from encoders.images.raw_image import ImageReadError, RawImage, Reason

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PIXEL_TAG = b"\xe0\x7f\x10\x00"
_LATERAL = {"LATERAL", "LAT", "LL", "RL"}
_VIEW_CODES = {  # SNOMED RT and CT codes of CID 4010, DX View
    **dict.fromkeys(("R-10206", "399348003"), View.AP),
    **dict.fromkeys(("R-10214", "399372009"), View.PA),
    **dict.fromkeys(("R-10232", "399198007", "R-10236", "399173006"), View.LATERAL),
}
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def read_dicom(data: bytes) -> RawImage:
    """Read the first frame of a DICOM file at its full depth.

    Raises:
        ImageReadError: nothing to show; the message names the tag, its value and the cure.
    """
    dataset = parse(data)
    if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        raise _no_pixels(dataset, data)
    layout = read_layout(dataset)
    warnings = list(layout.warnings)
    image = grey_image(dataset, stored_values(dataset, layout, warnings), layout)
    return describe(image, dataset, warnings)


def describe(image: RawImage, dataset: Dataset, notes: Iterable[str]) -> RawImage:
    """The image with what the header says about it, and ``notes`` before its own warnings."""
    warnings = [*notes, *image.warnings]
    if overlays(dataset):
        warnings.append("an overlay (drawn annotation) in the file is not shown")
    return replace(
        image,
        view=view_of(dataset),
        spacing_mm=_spacing(dataset),
        modality=code(dataset, "Modality"),
        body_part=code(dataset, "BodyPartExamined"),
        warnings=tuple(warnings),
    )


def _no_pixels(dataset: Dataset, data: bytes) -> ImageReadError:
    if _PIXEL_TAG in data[-max(len(data) - 132, 0) :]:
        return ImageReadError(
            Reason.TRUNCATED,
            f"{tag('PixelData')} is cut short: the file ends inside it. Transfer the file again.",
        )
    uid = word(dataset, "SOPClassUID", limit=64)
    name = UID(uid).name if uid else ""
    kind = f" (SOP class {name})" if name and name != uid else ""
    return ImageReadError(
        Reason.NO_PIXELS,
        f"{tag('PixelData')} is missing{kind}: there is no image in this file. Choose the image "
        "itself, not its report, presentation state or directory.",
    )


def view_of(dataset: Dataset) -> View:
    """ViewPosition (0018,5101), else ViewCodeSequence (0054,0220)."""
    position = code(dataset, "ViewPosition")
    if position in (View.PA, View.AP):
        return View(position)
    if position in _LATERAL:
        return View.LATERAL
    for item in items(dataset, "ViewCodeSequence"):
        view = _VIEW_CODES.get(word(item, "CodeValue"))
        if view is not None:
            return view
    return View.UNKNOWN


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Row and column spacing in mm: in the patient, else at the detector, else of the scanner."""
    for keyword in _SPACINGS:
        values = numbers(dataset, keyword)
        if len(values) == 2 and all(0.01 <= value <= 10 for value in values):
            return values[0], values[1]
    return None
