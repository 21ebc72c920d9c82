"""PNG and JPEG: depth, transparency, orientation, colour."""

import numpy as np
from PIL import Image
from support.dicom_files import ramp
from support.image_reading import encode_image

from encoders.base import View
from encoders.image_io import BLANK_WARNING, read_image
from encoders.images.raw_image import COLOUR_WARNING


def test_png_and_jpeg_modes_give_the_same_image() -> None:
    grey = ramp(8)
    expected = grey / 255
    image = Image.fromarray(grey)
    exact = [
        encode_image(image, "PNG"),
        encode_image(image.convert("RGB"), "PNG"),
        encode_image(image.convert("RGBA"), "PNG"),
        encode_image(image.convert("LA"), "PNG"),
        encode_image(image.quantize(256), "PNG"),
        encode_image(Image.fromarray(ramp(16)), "PNG"),
    ]
    for data in exact:
        assert np.abs(read_image(data).pixels - expected).max() <= 1 / 255 + 1e-6
    lossy = [
        encode_image(image, "JPEG", quality=100),
        encode_image(image.convert("RGB"), "JPEG", quality=100),
        encode_image(image.convert("CMYK"), "JPEG", quality=100),
        encode_image(image, "JPEG", quality=100, progressive=True),
    ]
    for data in lossy:
        picture = read_image(data)
        assert np.abs(picture.pixels - expected).max() <= 2 / 255
        assert picture.view is View.UNKNOWN


def test_a_12_bit_image_in_a_16_bit_png_is_not_black() -> None:
    image = read_image(encode_image(Image.fromarray(ramp(12)), "PNG"))
    assert image.pixels.max() == 1
    assert any("16-bit PNG" in warning for warning in image.warnings)


def test_transparent_is_black() -> None:
    layered = np.dstack([np.full((64, 64), 255, np.uint8), np.zeros((64, 64), np.uint8)])
    layered[:32, :, 1] = 255
    image = read_image(encode_image(Image.fromarray(layered, "LA"), "PNG"))
    assert image.pixels[:32].min() == 1
    assert image.pixels[32:].max() == 0
    assert any("transparent" in warning for warning in image.warnings)


def test_exif_orientation_turns_a_jpeg_upright() -> None:
    grey = ramp(8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    data = encode_image(Image.fromarray(np.rot90(grey)), "JPEG", quality=100, exif=exif)
    assert np.abs(read_image(data).pixels - grey / 255).max() <= 2 / 255


def test_colour_is_warned_of() -> None:
    colour = Image.merge(
        "RGB", [Image.fromarray(layer) for layer in (ramp(8), 255 - ramp(8), ramp(8))]
    )
    assert any("colour" in warning for warning in read_image(encode_image(colour, "PNG")).warnings)
    assert read_image(encode_image(Image.fromarray(ramp(8)).convert("RGB"), "PNG")).warnings == ()


def test_several_colours_are_distinguished_from_one_tint() -> None:
    grey = ramp(8).astype(float)
    yellow = np.stack([grey, 0.9 * grey, 0.5 * grey + 20], axis=2).astype(np.uint8)
    rows, columns = np.indices(grey.shape)
    cat = np.stack([grey, 255 * rows / rows.max(), 255 * (columns % 2)], axis=2).astype(np.uint8)
    tinted = read_image(encode_image(Image.fromarray(yellow), "PNG")).warnings
    assert tinted == ("a colour image: its luminance is used",)
    assert read_image(encode_image(Image.fromarray(cat), "PNG")).warnings == (COLOUR_WARNING,)


def test_a_constant_picture_is_read_with_a_warning() -> None:
    assert BLANK_WARNING in read_image(encode_image(Image.new("L", (64, 64), 90), "PNG")).warnings
