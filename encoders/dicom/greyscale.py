"""From stored values to an image, in the standard's order: padding, modality LUT, VOI, polarity.

PS3.3 C.7.5.1.1.2, C.11.1, C.11.2, C.7.6.3. `pydicom.pixels.processing` serves for palettes only: it
covers half the cases of tests/support/dicom_cases.py (no shutter, padding, unsuitable window,
mislabelled LUT).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from encoders.dicom.geometry import Mask, shutter_mask
from encoders.dicom.header import code, items, number, numbers, uint16_values
from encoders.dicom.layout import Layout, tag
from encoders.images.exposure import (
    ALL_CODES,
    Histogram,
    Voi,
    VoiLut,
    Window,
    WindowFunction,
    apply_table,
    choose_voi,
)
from encoders.images.raw_image import ImageReadError, RawImage, ReadFailure

Pixels = NDArray[Any]

_MAX_PADDING_SHARE = 0.98
"""If more than this share of an image is padding, the padding value is wrong."""

_ENCODED_PERCENTILES = (0.01, 99.99)
"""Percentiles that the 65536 codes cover if values have more than 16 bits: a single outlier must
not leave the rest of the image with a handful of greys."""

_MIN_WINDOW_WIDTH = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class _CodedPixels:
    """Values as uint16 codes: ``code * slope + intercept`` is the value."""

    codes: NDArray[np.uint16]
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def values(self) -> NDArray[np.float64]:
        """The value of every code: float64 [65536]."""
        return ALL_CODES * self.slope + self.intercept


def grey_image(dataset: Dataset, stored: Pixels, layout: Layout) -> RawImage:
    """An image from its stored values [rows, columns] and the header."""
    if layout.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return _colour_image(dataset, stored, layout)
    warnings: list[str] = []
    padding = _padding_mask(dataset, stored, layout, warnings)
    shutter = shutter_mask(dataset, layout.rows, layout.columns, warnings)
    masks = [mask for mask in (padding, shutter) if mask is not None]
    hidden = np.logical_or.reduce(masks) if masks else None
    invert = _is_inverted(dataset, layout, warnings)
    if code(dataset, "PresentationIntentType") == "FOR PROCESSING":
        warnings.append(
            f"{tag('PresentationIntentType')} = FOR PROCESSING: detector values that were not "
            "made for reading; brightness and contrast may mislead, use the FOR PRESENTATION image"
        )
    coded = _apply_modality_lut(dataset, _encode(stored, hidden), warnings)
    visible = coded.codes if hidden is None else coded.codes[~hidden]
    if visible.size == 0:
        hidden, visible = None, coded.codes
        warnings.append("padding and shutter cover the whole image: not used")
    histogram = Histogram.from_codes(visible, slope=coded.slope, intercept=coded.intercept)
    candidates = _read_voi(dataset, histogram, warnings)
    voi = choose_voi(candidates, histogram, invert=invert, warnings=warnings)
    return RawImage(
        coded.codes, coded.slope, coded.intercept, voi, invert, hidden, warnings=tuple(warnings)
    )


def _colour_image(dataset: Dataset, stored: Pixels, layout: Layout) -> RawImage:
    """Luminance of colour; windows and polarity apply to grey values only (PS3.3 C.11.2.1.2)."""
    top = (1 << min(layout.bits_stored, 16)) - 1
    codes = np.asarray(stored >> max(layout.bits_stored - 16, 0)).astype(np.uint16)
    if layout.photometric == "PALETTE COLOR":
        try:
            brightness = _palette_luminance(dataset, entries=top + 1)
        except Exception:  # noqa: BLE001 - pydicom raises many kinds for malformed palettes
            raise ImageReadError(
                ReadFailure.BAD_HEADER,
                f"{tag('PhotometricInterpretation')} = 'PALETTE COLOR', but the palette is "
                "missing or damaged. Export the image as MONOCHROME2.",
            ) from None
        codes = apply_table(np.rint(brightness * 65535).astype(np.uint16), codes)
        top = 65535
    window = Window(top / 2, top, WindowFunction.LINEAR_EXACT)
    return RawImage(codes, 1.0, 0.0, window, warnings=("a colour image: its luminance is used",))


def _padding_mask(
    dataset: Dataset, stored: Pixels, layout: Layout, warnings: list[str]
) -> Mask | None:
    """True for padding (PS3.3 C.7.5.1.1.2): bool [rows, columns], or None without padding."""
    value = number(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = number(dataset, "PixelPaddingRangeLimit")
    ends = [_match_signedness(end, layout) for end in (value, value if limit is None else limit)]
    padded = (stored >= min(ends)) & (stored <= max(ends))
    share = padded.mean()
    if share > _MAX_PADDING_SHARE:
        warnings.append(f"{tag('PixelPaddingValue')} marks {share:.0%} of the image: not used")
        return None
    return padded if share > 0 else None


def _match_signedness(value: float, layout: Layout) -> float:
    """A padding value in the pixels' signedness: its VR, US or SS, is often the wrong one."""
    span = float(1 << layout.bits_allocated)
    if layout.signed and value >= span / 2:
        return value - span
    if not layout.signed and value < 0:
        return value + span
    return value


def _is_inverted(dataset: Dataset, layout: Layout, warnings: list[str]) -> bool:
    """Whether the lowest value is white.

    MONOCHROME1 says so (C.7.6.3.1.2), and PresentationLUTShape INVERSE (C.8.11.3). MONOCHROME1 with
    IDENTITY is a contradiction: every writer sets the photometric interpretation on purpose.
    """
    shape, low_is_white = code(dataset, "PresentationLUTShape"), layout.photometric == "MONOCHROME1"
    if shape == ("IDENTITY" if low_is_white else "INVERSE"):
        warnings.append(
            f"{tag('PhotometricInterpretation')} = {layout.photometric} with "
            f"{tag('PresentationLUTShape')} = {shape}: shown with its low values white"
        )
    return low_is_white or shape == "INVERSE"


def _encode(stored: Pixels, hidden: Mask | None) -> _CodedPixels:
    """Stored values as uint16 codes: exact up to 16 bits, else in 65536 steps."""
    kind, size = stored.dtype.kind, stored.dtype.itemsize
    if kind == "u" and size <= 2:
        return _CodedPixels(stored.astype(np.uint16))
    if kind == "i" and size <= 2:
        offset = stored.astype(np.int16).view(np.uint16) ^ np.uint16(0x8000)
        return _CodedPixels(offset, intercept=-32768.0)
    visible = stored if hidden is None else stored[~hidden]
    ends = np.percentile(visible, _ENCODED_PERCENTILES).tolist() if visible.size else [0.0, 0.0]
    low, high = math.floor(ends[0]), math.ceil(ends[1])
    slope = max((high - low) / 65535.0, 1.0)
    codes = np.empty(stored.shape, np.uint16)
    for row in range(0, len(stored), 256):  # float64 of a block, not of the image
        block = stored[row : row + 256].astype(np.float64)
        codes[row : row + 256] = np.clip(np.rint((block - low) / slope), 0, 65535)
    return _CodedPixels(codes, slope, low)


def _apply_modality_lut(dataset: Dataset, coded: _CodedPixels, warnings: list[str]) -> _CodedPixels:
    """The modality LUT, as a table or as slope and intercept (C.11.1)."""
    values = coded.values
    for item in items(dataset, "ModalityLUTSequence")[:1]:
        lut_and_bits = _read_lut(item, lowest=float(values[0]), highest=float(values[-1]))
        if lut_and_bits is not None:
            table = lut_and_bits[0].apply(values).astype(np.uint16)
            return _CodedPixels(apply_table(table, coded.codes))
        warnings.append(f"{tag('ModalityLUTSequence')} is empty or damaged: not used")
    group = _functional_group(dataset, "RescaleSlope", "PixelValueTransformationSequence")
    slope, intercept = number(group, "RescaleSlope"), number(group, "RescaleIntercept") or 0.0
    if slope == 0:
        warnings.append(f"{tag('RescaleSlope')} = 0: not used")
        slope, intercept = 1.0, 0.0
    slope = 1.0 if slope is None else slope
    return _CodedPixels(coded.codes, coded.slope * slope, coded.intercept * slope + intercept)


def _functional_group(dataset: Dataset, keyword: str, sequence: str) -> Dataset:
    """The data set that has an attribute: the top level, or a functional group of it."""
    if keyword in dataset:
        return dataset
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in items(dataset, groups)[:1]:
            for item in items(group, sequence)[:1]:
                return item
    return dataset


def _read_voi(dataset: Dataset, histogram: Histogram, warnings: list[str]) -> list[Voi]:
    """The file's first VOI LUT and first window, in this order (C.11.2)."""
    candidates: list[Voi] = []
    lowest, highest = float(histogram.values[0]), float(histogram.values[-1])
    luts = items(dataset, "VOILUTSequence")
    if len(luts) > 1:
        warnings.append(f"{len(luts)} VOI LUTs in the file: the first is used")
    for item in luts[:1]:
        if (lut_and_bits := _read_lut(item, lowest=lowest, highest=highest)) is None:
            warnings.append(f"{tag('VOILUTSequence')} is empty or damaged: not used")
        else:
            lut, bits = lut_and_bits
            candidates.append(VoiLut(lut.first, lut.outputs / float((1 << bits) - 1)))
    window = _read_window(
        _functional_group(dataset, "WindowWidth", "FrameVOILUTSequence"), warnings
    )
    return candidates if window is None else [*candidates, window]


def _read_window(dataset: Dataset, warnings: list[str]) -> Window | None:
    centres, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not centres or not widths:
        return None
    if len(centres) > 1 or len(widths) > 1:
        warnings.append(
            f"{max(len(centres), len(widths))} windows in the file: the first is used (centre "
            f"{centres[0]:g}, width {widths[0]:g})"
        )
    name = code(dataset, "VOILUTFunction") or "LINEAR"
    if name not in WindowFunction.__members__:
        warnings.append(f"{tag('VOILUTFunction')} is unknown: LINEAR assumed")
    function = WindowFunction.__members__.get(name, WindowFunction.LINEAR)
    if widths[0] < _MIN_WINDOW_WIDTH:
        warnings.append(f"{tag('WindowWidth')} = {widths[0]:g} is no width: not used")
        return None
    if function is WindowFunction.LINEAR and widths[0] < 1:
        function = WindowFunction.LINEAR_EXACT  # LINEAR is defined for a width of 1 or more
    return Window(centres[0], widths[0], function)


def _read_lut(item: Dataset, *, lowest: float, highest: float) -> tuple[VoiLut, int] | None:
    """A table (C.11.1.1.1, C.11.2.1.1) and the bits of its outputs; None if it is empty.

    Writers confuse the signedness of the first value mapped: the reading between the lowest and
    highest input is taken.
    """
    descriptor = uint16_values(item, "LUTDescriptor")
    if len(descriptor) < 3:
        return None
    count = int(descriptor[0]) or 65536  # 65536 does not fit 16 bits and is written 0
    first, declared = int(descriptor[1]), int(descriptor[2])
    if first >= 32768 and (lowest < 0 or first > highest):
        first -= 65536
    entries = uint16_values(item, "LUTData", max_bytes=count + 1 if declared <= 8 else 0)[:count]
    if len(entries) == 0:
        return None
    # If 16 bits are declared and entries reach 4095 only, the entries are right: else the image
    # would have a sixteenth of its brightness. Likewise for 8 bits declared.
    used = max(int(entries.max()).bit_length(), 1)
    bits = declared if used <= declared < used + 3 else used
    return VoiLut(first, entries.astype(np.float64)), bits


def _palette_luminance(dataset: Dataset, *, entries: int) -> NDArray[np.float64]:
    """Brightness in [0, 1] of the first ``entries`` indices of a palette (C.7.9)."""
    indices = np.arange(entries, dtype=np.uint16 if entries > 256 else np.uint8)
    colours = apply_color_lut(indices[None], dataset)[0]
    scale = 255.0 if colours.dtype.itemsize == 1 else 65535.0
    brightness: NDArray[np.float64] = colours[:, :3] @ np.array([0.299, 0.587, 0.114]) / scale
    return brightness
