"""A DICOM file to an image: parse, check, decode, grey scale, upright, and what the header says.

Owns the order of the steps, and spacing, modality and body part. The steps are the other modules of
this package.
"""

from collections.abc import Iterable
from dataclasses import replace

from pydicom.dataset import Dataset
from pydicom.uid import UID

from encoders.dicom.greyscale import grey_image
from encoders.dicom.header import code, numbers, overlays, parse, word
from encoders.dicom.layout import read_layout, tag
from encoders.dicom.orientation import turn_of
from encoders.dicom.pixels import stored_values
from encoders.dicom.view import view_of
from encoders.images.geometry import is_square, turned, with_square_pixels
from encoders.images.raw_image import Fault, ImageReadError, RawImage

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PIXEL_TAG = b"\xe0\x7f\x10\x00"
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def read_dicom(data: bytes) -> RawImage:
    """Read the first frame of a DICOM file at its full depth.

    Raises:
        ImageReadError: nothing to show; the message names the tag, its value and the cure.
    """
    dataset = parse(data)
    warnings: list[str] = []
    image = _as_stored(dataset, data, warnings)
    return describe(image, dataset, warnings)


def read_as_stored(data: bytes) -> RawImage:
    """As `read_dicom`, with rows and columns as they lie in the file: for who writes it again."""
    return _as_stored(parse(data), data, [])


def _as_stored(dataset: Dataset, data: bytes, warnings: list[str]) -> RawImage:
    if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        raise _no_pixels(dataset, data)
    layout = read_layout(dataset)
    warnings.extend(layout.warnings)
    return grey_image(dataset, stored_values(dataset, layout, warnings), layout)


def describe(image: RawImage, dataset: Dataset, notes: Iterable[str]) -> RawImage:
    """The image upright, with what the header says about it, and ``notes`` before its warnings."""
    warnings = [*notes, *image.warnings]
    if overlays(dataset):
        warnings.append("an overlay (drawn annotation) in the file is not shown")
    view = view_of(dataset)
    image = replace(
        image,
        view=view,
        spacing_mm=_spacing(dataset),
        modality=code(dataset, "Modality"),
        body_part=code(dataset, "BodyPartExamined"),
    )
    aspect = _aspect(dataset)
    if not is_square(aspect):
        square = with_square_pixels(image, aspect)
        warnings.append(
            f"pixels are {aspect:.3g} times as high as wide: "
            + ("resampled to square ones" if square else "shapes are distorted")
        )
        image = square or image
    turn, about = turn_of(dataset, view)
    warnings.extend(about)
    if turn:
        image = turned(image, turn)
    return replace(image, warnings=tuple(warnings))


def is_plain(dataset: Dataset) -> bool:
    """Whether the stored pixels are square and upright: shown as they lie."""
    return is_square(_aspect(dataset)) and not turn_of(dataset, view_of(dataset))[0]


def _no_pixels(dataset: Dataset, data: bytes) -> ImageReadError:
    if _PIXEL_TAG in data[-max(len(data) - 132, 0) :]:
        return ImageReadError(
            Fault.TRUNCATED,
            f"{tag('PixelData')} is cut short: the file ends inside it. Transfer the file again.",
        )
    uid = word(dataset, "SOPClassUID", limit=64)
    name = UID(uid).name if uid else ""
    kind = f" (SOP class {name})" if name and name != uid else ""
    return ImageReadError(
        Fault.NO_PIXELS,
        f"{tag('PixelData')} is missing{kind}: there is no image in this file. Choose the image "
        "itself, not its report, presentation state or directory.",
    )


def _spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Row and column spacing in mm: in the patient, else at the detector, else of the scanner."""
    for keyword in _SPACINGS:
        values = numbers(dataset, keyword)
        if len(values) == 2 and all(0.01 <= value <= 10 for value in values):
            return values[0], values[1]
    return None


def _aspect(dataset: Dataset) -> float:
    """Height of a pixel by its width: by its spacing, else by PixelAspectRatio (0028,0034)."""
    if spacing := _spacing(dataset):
        return spacing[0] / spacing[1]
    ratio = numbers(dataset, "PixelAspectRatio")
    return ratio[0] / ratio[1] if len(ratio) == 2 and min(ratio) > 0 else 1.0
