"""Detects text burned into an image, as a warning only: it does not read the text.

Looks for rows of small strokes of one height that are much brighter, or darker, than their
surroundings. A lead marker ("L", "AP") is too short to count; a burned-in name or date is not.
Large, faint and handwritten text is missed.
"""

import numpy as np
from numpy.typing import NDArray

MAX_SIDE_PIXELS = 1280
"""Larger images are shrunk: letters of 15 to 60 pixels become 8 to 30 pixels high."""

MAX_STROKE_PIXELS = 9
"""Widest stroke of a letter."""

MIN_CONTRAST = 0.10
"""How much brighter a stroke is than its surroundings, of the range [0, 1]."""

LETTER_HEIGHTS_PIXELS = (6, 48)
MIN_LETTERS_IN_LINE = 6
"""Fewer are a marker ("ERECT")."""

WARNING = "there is writing on the image: look whether it names somebody"


def has_burned_in_text(pixels: NDArray[np.float32]) -> bool:
    """Whether an image, or its negative, has a line of letters.

    Args:
        pixels: float32 [H, W] in [0, 1].
    """
    small = _downsample(pixels, max(1, round(max(pixels.shape) / MAX_SIDE_PIXELS)))
    return any(_has_line(_letter_boxes(image)) for image in (small, 1 - small))


def _downsample(pixels: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Average over squares of ``step`` pixels."""
    rows, columns = (side // step * step for side in pixels.shape)
    blocks = pixels[:rows, :columns].reshape(rows // step, step, columns // step, step)
    return np.asarray(blocks.mean((1, 3)), np.float32)


def _letter_boxes(image: NDArray[np.float32]) -> NDArray[np.intp]:
    """Bounding boxes of strokes that may be letters: intp [N, 4], (top, left, bottom, right)."""
    from scipy import ndimage  # noqa: PLC0415 - heavy

    background = ndimage.grey_opening(image, size=(MAX_STROKE_PIXELS, MAX_STROKE_PIXELS))
    labelled, _ = ndimage.label(image - background > MIN_CONTRAST, np.ones((3, 3), int))
    slices = ndimage.find_objects(labelled)
    corners = [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in slices]
    boxes = np.array(corners, np.intp).reshape(-1, 4)
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas = np.bincount(labelled.ravel(), minlength=len(boxes) + 1)[1:]
    fill = areas / np.maximum(heights * widths, 1)
    smallest, largest = LETTER_HEIGHTS_PIXELS
    letter_sized = (heights >= smallest) & (heights <= largest) & (widths <= 1.6 * heights)
    return np.asarray(boxes[letter_sized & (fill > 0.12)])


def _has_line(boxes: NDArray[np.intp]) -> bool:
    lines: list[list[NDArray[np.intp]]] = []
    for box in boxes[np.argsort(boxes[:, 1], kind="stable")]:
        for line in lines:
            if _is_next_letter(line[-1], box):
                line.append(box)
                break
        else:
            lines.append([box])
    return any(len(line) >= MIN_LETTERS_IN_LINE for line in lines)


def _is_next_letter(last: NDArray[np.intp], box: NDArray[np.intp]) -> bool:
    """Whether a box may be the next letter after ``last``: same line, same size, close by."""
    height, other = last[2] - last[0], box[2] - box[0]
    gap = box[1] - last[3]
    return bool(
        abs(last[2] - box[2]) <= 0.25 * max(height, other)
        and 0.6 <= other / height <= 1.67
        and -0.2 * height <= gap <= 1.2 * height
    )
