"""Reads PNG and JPEG files, taken to be rendered for viewing: white is dense."""

import io
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from encoders.images.exposure import Histogram, Window, WindowFunction, percentile_window
from encoders.images.raw_image import (
    COLOUR_WARNING,
    ImageReadError,
    RawImage,
    ReadFailure,
    check_size,
)

_OPENERS = {"PNG": PngImageFile, "JPEG": JpegImageFile}

_MAX_COLOUR_SPREAD = 0.04
"""Limit of `_colour_spread`. Grey and evenly tinted pictures have 0; photographs of things 0.05 and
more (38 of the 40 in installed packages)."""

_MIN_CHANNEL_RANGE = 8
"""Mean range of the channels of a coloured image, of 255: compression alone causes a few steps."""

_MAX_SCANS = 32
"""Scans of a JPEG file. Progressive ones have about ten; each is a pass over all pixels, so that
thousands of empty ones, of a few bytes each, would take minutes."""

_RENDERED_PEAK = 0.5
"""A 16-bit PNG whose brightest pixel is below this share of white was not rendered: it holds a
detector's 10 to 15 bits as they were (as in PadChest), and would be nearly black."""


def read_raster(data: bytes) -> RawImage:
    """Read a PNG or JPEG file; what cannot be read raises `ImageReadError`."""
    kind = "PNG" if data.startswith(b"\x89") else "JPEG"
    try:
        # Not Image.open: it has a size limit of its own, which warns before it refuses.
        with _OPENERS[kind](io.BytesIO(data)) as image:
            check_size(image.height, image.width, rows_name="height", columns_name="width")
            if kind == "JPEG":
                _refuse_many_scans(data)
            warnings: list[str] = []
            if getattr(image, "n_frames", 1) > 1:
                warnings.append("several pictures in the file: the first is shown")
            image.load()
            if kind == "PNG" and data[24] == 16 and image.mode in ("RGB", "RGBA"):
                _refuse_dark_colour(image)
            codes, top = _grey(_upright(image, warnings), warnings)
    except ImageReadError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow raises a dozen kinds
        truncated = "truncated" in str(error).lower()
        reason = ReadFailure.TRUNCATED if truncated else ReadFailure.UNDECODABLE
        raise ImageReadError(
            reason,
            f"the {kind} file "
            f"{'is cut short' if truncated else 'is damaged'} ({type(error).__name__}). Transfer "
            "or export it again.",
        ) from None
    window = Window(top / 2, top, WindowFunction.LINEAR_EXACT)
    if top > 255:
        histogram = Histogram.from_codes(codes, slope=1.0, intercept=0.0)
        if histogram.values[-1] < _RENDERED_PEAK * top and not histogram.is_constant:
            window = percentile_window(histogram, invert=False)
            warnings.append(
                f"the brightest value of this 16-bit {kind} is {histogram.values[-1]:.0f} of "
                f"{top}: shown from percentile to percentile of its own values"
            )
    return RawImage(codes, 1.0, 0.0, window, warnings=tuple(warnings))


def _refuse_many_scans(data: bytes) -> None:
    """Counts the markers: none can occur within a scan (ITU T.81 B.1.1.5)."""
    scans = data.count(b"\xff\xda")
    if scans > _MAX_SCANS:
        raise ImageReadError(
            ReadFailure.UNDECODABLE,
            f"the JPEG file has {scans} scans, more than {_MAX_SCANS}: no camera or viewer writes "
            "such a file. Export it again.",
        )


def _refuse_dark_colour(image: Image.Image) -> None:
    """Pillow keeps the upper byte of 16-bit colour: four bits of a detector's twelve."""
    peaks = cast("tuple[tuple[int, int], ...]", image.getextrema())
    peak = max(high for _, high in peaks[:3])
    if peak < _RENDERED_PEAK * 255:
        raise ImageReadError(
            ReadFailure.UNSUPPORTED,
            f"the brightest value of this 16-bit PNG is {peak / 255:.0%} of white: it holds a "
            "detector's values, which only grey without transparency keeps. Export it as such.",
        )


def _upright(image: Image.Image, warnings: list[str]) -> Image.Image:
    """Apply the EXIF orientation, if it is well-formed."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - EXIF is parsed by hand; it fails in many ways
        warnings.append("the EXIF data is damaged: the orientation is taken as it is")
        return image


def _grey(image: Image.Image, warnings: list[str]) -> tuple[NDArray[np.uint16], int]:
    """Luminance as uint16 [H, W], and the value of white."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow has 32-bit containers for some
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16), 65535
    if "transparency" in image.info or image.mode in ("LA", "RGBA", "PA", "La", "RGBa"):
        image = _on_black(image, warnings)
    if image.mode in ("P", "CMYK"):
        image = image.convert("RGB")
    if image.mode not in ("1", "L"):
        thumbnail = np.asarray(image.convert("RGB").resize((64, 64)))
        if _colour_spread(thumbnail) > _MAX_COLOUR_SPREAD:
            warnings.append(COLOUR_WARNING)
        elif (thumbnail.max(axis=2) - thumbnail.min(axis=2)).mean() > _MIN_CHANNEL_RANGE:
            warnings.append("a colour image: its luminance is used")
    return np.asarray(image.convert("L")).astype(np.uint16), 255


def _on_black(image: Image.Image, warnings: list[str]) -> Image.Image:
    """The image with transparent pixels black, as outside a shutter."""
    width, height = image.size
    opaque, flat = True, Image.new("RGB", image.size)
    for top in range(0, height, 256):  # the largest image would take more than a gigabyte
        box = (0, top, width, min(top + 256, height))
        layered = image.crop(box).convert("RGBA")
        opaque = opaque and layered.getchannel("A").getextrema() == (255, 255)
        black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
        flat.paste(Image.alpha_composite(black, layered).convert("RGB"), box)
    if not opaque:
        warnings.append("transparent pixels are shown black")
    return flat


def _colour_spread(thumbnail: NDArray[np.uint8]) -> float:
    """How far colours depart from a single tint; 0 for grey, below 1.5.

    An X-ray photographed under a yellow lamp has one tint and stays near 0; a cat does not.
    """
    small = thumbnail.astype(np.float64).reshape(-1, 3) / 255
    basis = np.stack([np.ones(len(small)), small.mean(axis=1)], axis=1)
    chroma = small[:, [0, 2]] - small[:, [1]]
    residual = chroma - basis @ np.linalg.lstsq(basis, chroma, rcond=None)[0]
    return float(np.sqrt(np.square(residual).sum(axis=1).mean()))
