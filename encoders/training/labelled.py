"""Images without reports that readers labelled and drew on, and what they teach.

Sources judge different things, so a label is there, not there, or unknown, and an unknown one
teaches nothing: no box is not "normal". A finding's map is taught by what was drawn: each place by
whether it is covered, and the map as a whole to have its peak there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from encoders.annotations import fill_outlines
from encoders.eclip.finding_maps import CELL
from encoders.preprocess import EvalTransform
from encoders.training.augment import RankRng, augment_marked
from encoders.training.config import AugmentSettings
from encoders.training.dataset import LabelledExample, TrainingDataError
from encoders.training.training_set import load_images

COVER_SIDE = 64
"""Side of a drawn region in memory."""

_ABSENT_WEIGHT = 0.3
"""Of a map of a finding that is not there, against one that is: they are many."""


@dataclass(frozen=True, slots=True)
class LabelledTensors:
    """Labelled images in memory.

    Attributes:
        images: uint8 [F, side, side].
        labels: float32 [F, L], 1 there, 0 not there, NaN unknown.
        label_names: the L labels, ``source/class``.
        covers: uint8 [64, 64] by row and finding, 255 inside; where something was drawn.
        known: float32 [F, K], 1 where it is known whether and where the finding is.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    label_names: tuple[str, ...]
    covers: dict[int, dict[int, NDArray[np.uint8]]]
    known: NDArray[np.float32]

    def drawn(self, rows: Sequence[int]) -> Tensor:
        """float32 [N, K, 64, 64] of the images with these rows."""
        whole = torch.zeros(len(rows), self.known.shape[1], COVER_SIDE, COVER_SIDE)
        for at, row in enumerate(rows):
            for finding, cover in self.covers.get(row, {}).items():
                whole[at, finding] = torch.from_numpy(cover).float() / 255
        return whole


class LabelledBatch(NamedTuple):
    """Normalised images float32 [N, channels, H, W], and rows of `LabelledTensors`.

    ``cover`` is float32 [N, K, h, w], the share of each place that is inside what was drawn.
    """

    pixels: Tensor
    labels: Tensor
    cover: Tensor
    known: Tensor


def load_labelled_tensors(
    images: Sequence[LabelledExample], *, findings: Sequence[str], side: int, cache: Path
) -> LabelledTensors:
    """Decode the images and draw their regions.

    Raises:
        TrainingDataError: there are none.
    """
    if not images:
        raise TrainingDataError("no labelled image to learn from; give [[data.labelled]] a folder")
    names = tuple(sorted({name for image in images for name in image.labels}))
    labels = np.array(
        [[float(image.labels.get(name, math.nan)) for name in names] for image in images],
        np.float32,
    )
    covers: dict[int, dict[int, NDArray[np.uint8]]] = {}
    known = np.zeros((len(images), len(findings)), np.float32)
    for row, image in enumerate(images):
        for at, finding in enumerate(findings):
            outlines = image.outlines.get(finding)
            known[row, at] = outlines is not None
            if outlines:
                covers.setdefault(row, {})[at] = fill_outlines(outlines, side=COVER_SIDE)
    pixels = load_images([image.path for image in images], side=side, cache=cache)
    return LabelledTensors(pixels, labels, names, covers, known)


def draw_labelled_batch(
    data: LabelledTensors,
    rows: NDArray[np.intp],
    *,
    augment: AugmentSettings,
    transform: EvalTransform,
    rng: RankRng,
) -> LabelledBatch:
    """Images and what was drawn on them, under the same crops."""
    cropped, maps = augment_marked(data.images[rows], augment, transform=transform, rng=rng)
    grid = -(-transform.size // CELL)
    fine = functional.affine_grid(maps, [len(rows), 1, 4 * grid, 4 * grid], align_corners=False)
    drawn = data.drawn([int(row) for row in rows])
    cover = functional.avg_pool2d(functional.grid_sample(drawn, fine, align_corners=False), 4)
    return LabelledBatch(
        transform.normalise(cropped).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(data.labels[rows]),
        cover,
        torch.from_numpy(data.known[rows]),
    )


def labelled_losses(log_odds: Tensor, maps: Tensor, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
    """Losses of the labels and of the finding maps, in float32.

    Args:
        log_odds: of the labels, [N, L].
        maps: log-odds [N, K, h, w].
        batch: what is known of the images.
    """
    with torch.autocast(maps.device.type, enabled=False):
        covered, peak = map_losses(maps, batch.cover, batch.known)
        return label_loss(log_odds, batch.labels), 3 * covered + 0.3 * peak


def label_loss(log_odds: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross entropy over the labels that are known; both [N, L]."""
    known = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(
        log_odds, labels.nan_to_num(), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp(min=1)


def map_losses(maps: Tensor, cover: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each place is covered, and whether the peak is: two means over known maps.

    Args:
        maps: log-odds [N, K, h, w].
        cover: [N, K, h, w] in [0, 1].
        known: [N, K], 0 or 1.
    """
    there = cover.flatten(2).amax(-1) > 0.25
    places = functional.binary_cross_entropy_with_logits(maps, cover, reduction="none")
    weight = known * torch.where(there, 1.0, _ABSENT_WEIGHT)
    covered = (places.flatten(2).mean(-1) * weight).sum() / weight.sum().clamp(min=1)
    if not there.any():
        return covered, maps.sum() * 0
    share = maps.flatten(2)[there].log_softmax(-1)
    inside = cover.flatten(2)[there].clamp(min=1e-4, max=1).log()
    return covered, -(share + inside).logsumexp(-1).mean()
