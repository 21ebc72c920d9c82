"""Where on an image a finding is: a map for each finding from the image tower's own grid.

The maps are taught by radiologists' boxes and polygons (`encoders.training.labelled`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

CELL = 16
"""Pixels of the image that a place of a map stands for."""

INSIDE = 0.5
"""A place belongs to a finding's box if its share there is this part of the share at the peak."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where a finding is, as fractions of the image's width and height.

    Attributes:
        peak: (x, y) of the most likely place.
        box: (left, top, width, height) around it.
    """

    peak: tuple[float, float]
    box: tuple[float, float, float, float]


class FindingMaps(nn.Module):
    """Grids of a tower to one map a finding, at the finer grid's size.

    A place is part of what is read: where a finding lies is half known before the image is seen.

    Args:
        findings: how many maps.
        mid_width: channels of the finer grid.
        width: channels of the coarser one.
        grid: side of the finer grid at the model's image size.
    """

    HIDDEN = 96
    """Channels in between."""

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
        """[N, mid_width, h, w] and [N, width, h / 2, w / 2] to log-odds float32 [N, F, h, w]."""
        size = (mid.shape[-2], mid.shape[-1])
        coarse = functional.interpolate(self.deep(deep).float(), size, mode="bilinear")
        place: Tensor = self.place
        if place.shape[-2:] != size:
            place = functional.interpolate(place, size, mode="bilinear")
        seen = self.norm(self.mid(mid) + coarse + place).relu()
        maps: Tensor = self.out(self.conv_norm(self.conv(seen)).relu())
        return maps.float()


def locate(log_odds: NDArray[np.float32], *, side: int = 64) -> Region:
    """The peak and the box of one map [h, w]; read at a finer side, between the grid's places."""
    from scipy import ndimage  # noqa: PLC0415 - a query does not wait for it

    fine = _finer(log_odds, side)
    row, column = np.unravel_index(int(fine.argmax()), fine.shape)
    parts, _ = ndimage.label(_odds_share(fine) >= INSIDE)
    rows, columns = ndimage.find_objects(parts)[parts[row, column] - 1]
    left, top = columns.start / side, rows.start / side
    right, bottom = columns.stop / side, rows.stop / side
    peak = ((float(column) + 0.5) / side, (float(row) + 0.5) / side)
    return Region(peak, (left, top, right - left, bottom - top))


def contour_edges(
    log_odds: NDArray[np.float32], *, side: int, columns: tuple[float, float] = (0.0, 1.0)
) -> tuple[tuple[int, int, int, int], ...]:
    """The contour of all places of one map [h, w] that are at least `INSIDE` as likely as its peak.

    Args:
        log_odds: the map.
        side: how many parts of the image's sides the edges are counted in.
        columns: fractions of the width between which places and peak are looked for. Chosen of the
            finer map: a map cut before would overshoot at the cut, and have its peak there.

    Returns:
        Horizontal and vertical edges (x, y, x, y), in parts of the image's sides.
    """
    first, last = (round(part * side) for part in columns)
    inside = np.zeros((side + 2, side + 2), np.bool_)
    inside[1:-1, first + 1 : last + 1] = (
        _odds_share(_finer(log_odds, side)[:, first:last]) >= INSIDE
    )
    across = _runs(inside[1:, 1:-1] != inside[:-1, 1:-1])
    down = _runs((inside[1:-1, 1:] != inside[1:-1, :-1]).T)
    return tuple(
        [(first, row, last, row) for row, first, last in across]
        + [(column, first, column, last) for column, first, last in down]
    )


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Row, first and one past the last column of each unbroken run of a mask."""
    ends = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, first = np.nonzero(ends == 1)
    last = np.nonzero(ends == -1)[1]
    return list(zip(rows.tolist(), first.tolist(), last.tolist(), strict=True))


def _finer(log_odds: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    grid = torch.from_numpy(np.ascontiguousarray(log_odds))[None, None]
    fine = functional.interpolate(grid, (side, side), mode="bicubic")
    return np.asarray(fine[0, 0].numpy())


def _odds_share(fine: NDArray[np.float32]) -> NDArray[np.float64]:
    chance = 1 / (1 + np.exp(-fine.astype(np.float64)))
    return np.asarray(chance / chance.max())
