"""Finding maps: for each finding, logits over a grid of the image, from the image tower's grids.

Trained with radiologists' boxes and polygons (`encoders.training.labelled`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

CELL_SIZE = 16
"""Side of a map's cell in pixels of the model's input."""

MIN_PEAK_SHARE = 0.5
"""A cell belongs to a finding's region if its probability is at least this share of the peak's."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where a finding is, as fractions of the image's width and height.

    Attributes:
        peak: (x, y) of the highest probability.
        box: (left, top, width, height) around it.
    """

    peak: tuple[float, float]
    box: tuple[float, float, float, float]


class FindingMaps(nn.Module):
    """Combines two grids of an image tower into one map per finding, at the finer grid's size.

    A learned position embedding (``place``) enters too: where a finding lies is half known before
    the image is seen.

    Args:
        findings: number of maps.
        mid_width: channels of the finer grid.
        width: channels of the coarser grid.
        grid: side of the finer grid at the model's image size.
    """

    HIDDEN = 96
    """Channels of the hidden layers."""

    def __init__(self, findings: int, *, mid_width: int, width: int, grid: int) -> None:
        super().__init__()
        hidden = self.HIDDEN
        self.mid = nn.Conv2d(mid_width, hidden, 1, bias=False)
        self.deep = nn.Conv2d(width, hidden, 1, bias=False)
        self.place = nn.Parameter(torch.zeros(1, hidden, grid, grid))
        self.norm = nn.BatchNorm2d(hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False)
        self.conv_norm = nn.BatchNorm2d(hidden)
        self.out = nn.Conv2d(hidden, findings, 1)
        nn.init.constant_(self.out.bias, -3.0)  # type: ignore[arg-type] # it has one

    def forward(self, mid: Tensor, deep: Tensor) -> Tensor:
        """[N, mid_width, h, w] and [N, width, h / 2, w / 2] to logits float32 [N, F, h, w]."""
        size = (mid.shape[-2], mid.shape[-1])
        coarse = functional.interpolate(self.deep(deep).float(), size, mode="bilinear")
        place: Tensor = self.place
        if place.shape[-2:] != size:
            place = functional.interpolate(place, size, mode="bilinear")
        hidden = self.norm(self.mid(mid) + coarse + place).relu()
        maps: Tensor = self.out(self.conv_norm(self.conv(hidden)).relu())
        return maps.float()


def locate(logits: NDArray[np.float32], *, side: int = 64) -> Region:
    """Peak and surrounding box of one map [h, w], upsampled to ``side``."""
    from scipy import ndimage  # noqa: PLC0415 - slow to import

    fine = _upsample(logits, side)
    row, column = np.unravel_index(int(fine.argmax()), fine.shape)
    components, _ = ndimage.label(_peak_shares(fine) >= MIN_PEAK_SHARE)
    rows, columns = ndimage.find_objects(components)[components[row, column] - 1]
    left, top = columns.start / side, rows.start / side
    right, bottom = columns.stop / side, rows.stop / side
    peak = ((float(column) + 0.5) / side, (float(row) + 0.5) / side)
    return Region(peak, (left, top, right - left, bottom - top))


def contour_edges(
    logits: NDArray[np.float32], *, side: int, columns: tuple[float, float] = (0.0, 1.0)
) -> tuple[tuple[int, int, int, int], ...]:
    """Contour around all cells of one map [h, w] with at least `MIN_PEAK_SHARE` of its peak.

    Args:
        logits: the map.
        side: grid that the map is upsampled to.
        columns: only between these fractions of the width. The map is cropped after upsampling,
            which would overshoot at the crop's edge.

    Returns:
        Horizontal and vertical edges (x, y, x, y) on the upsampled grid.
    """
    first, last = (round(fraction * side) for fraction in columns)
    inside = np.zeros((side + 2, side + 2), np.bool_)
    shares = _peak_shares(_upsample(logits, side)[:, first:last])
    inside[1:-1, first + 1 : last + 1] = shares >= MIN_PEAK_SHARE
    horizontal = _runs(inside[1:, 1:-1] != inside[:-1, 1:-1])
    vertical = _runs((inside[1:-1, 1:] != inside[1:-1, :-1]).T)
    return tuple(
        [(start, row, stop, row) for row, start, stop in horizontal]
        + [(column, start, column, stop) for column, start, stop in vertical]
    )


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(row, start column, stop column) of each run of True in a mask."""
    changes = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(changes == 1)
    stops = np.nonzero(changes == -1)[1]
    return list(zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True))


def _upsample(logits: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    grid = torch.from_numpy(np.ascontiguousarray(logits))[None, None]
    fine = functional.interpolate(grid, (side, side), mode="bicubic")
    return np.asarray(fine[0, 0].numpy())


def _peak_shares(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities relative to the highest one."""
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return np.asarray(probabilities / probabilities.max())
