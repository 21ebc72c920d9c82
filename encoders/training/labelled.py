"""Images without reports that radiologists labelled and drew on: their tensors and losses.

A label is present, absent or, where no source judged it, unknown; the loss ignores unknown ones. A
drawing trains the finding map twice: each cell by whether it is inside, and the map to peak inside.
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
from encoders.eclip.finding_maps import CELL_SIZE
from encoders.preprocess import EvalTransform
from encoders.training.augment import RankRng, augment_with_affine
from encoders.training.config import AugmentSettings
from encoders.training.dataset import LabelledExample, TrainingDataError
from encoders.training.tensors import load_images

_MASK_SIDE = 64

_ABSENT_WEIGHT = 0.3
"""Weight of the map of an absent finding against a present one: most are absent."""

_MIN_COVERAGE = 0.25
"""A map counts as present if a cell has at least this share inside the drawing."""


@dataclass(frozen=True, slots=True)
class LabelledTensors:
    """All labelled images.

    Attributes:
        images: uint8 [F, side, side].
        labels: float32 [F, L], 1 present, 0 absent, NaN unknown.
        label_names: the L labels, ``source/class``.
        masks: uint8 [M, 64, 64], 255 inside the drawings; the first one is empty.
        mask_index: int64 [F, K], each image's mask for each finding.
        known: float32 [F, K], 1 where it is known whether and where the finding is.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    label_names: tuple[str, ...]
    masks: NDArray[np.uint8]
    mask_index: NDArray[np.int64]
    known: NDArray[np.float32]


class LabelledBatch(NamedTuple):
    """Normalised images float32 [N, channels, H, W] with rows of `LabelledTensors`.

    ``coverage`` float32 [N, K, h, w] is the share of each map cell inside the drawings.
    """

    pixels: Tensor
    labels: Tensor
    coverage: Tensor
    known: Tensor


def load_labelled_tensors(
    examples: Sequence[LabelledExample], *, findings: Sequence[str], side: int, cache: Path
) -> LabelledTensors:
    """Decode the images and rasterise their drawings.

    Raises:
        TrainingDataError: there are no images.
    """
    if not examples:
        raise TrainingDataError(
            'there are no labelled images; add [[data.experts]] of kind = "nih_expert"'
        )
    names = tuple(sorted({name for example in examples for name in example.labels}))
    labels = np.array(
        [[float(example.labels.get(name, math.nan)) for name in names] for example in examples],
        np.float32,
    )
    masks = [fill_outlines((), side=_MASK_SIDE)]
    mask_index = np.zeros((len(examples), len(findings)), np.int64)
    known = np.zeros(mask_index.shape, np.float32)
    for row, example in enumerate(examples):
        for column, finding in enumerate(findings):
            outlines = example.outlines.get(finding)
            known[row, column] = outlines is not None
            if outlines:
                mask_index[row, column] = len(masks)
                masks.append(fill_outlines(outlines, side=_MASK_SIDE))
    images = load_images([example.path for example in examples], side=side, cache=cache)
    return LabelledTensors(images, labels, names, np.stack(masks), mask_index, known)


def draw_labelled_batch(
    data: LabelledTensors,
    rows: NDArray[np.intp],
    *,
    augment: AugmentSettings,
    transform: EvalTransform,
    rng: RankRng,
) -> LabelledBatch:
    """Augmented images with their masks augmented alike."""
    images, affine = augment_with_affine(data.images[rows], augment, transform=transform, rng=rng)
    side = 4 * -(-transform.size // CELL_SIZE)
    grid = functional.affine_grid(affine, [len(rows), 1, side, side], align_corners=False)
    masks = torch.from_numpy(data.masks[data.mask_index[rows]]).float() / 255
    coverage = functional.grid_sample(masks, grid, align_corners=False)
    return LabelledBatch(
        transform.normalise(images).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(data.labels[rows]),
        functional.avg_pool2d(coverage, 4),
        torch.from_numpy(data.known[rows]),
    )


def labelled_losses(logits: Tensor, maps: Tensor, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
    """Losses of the label logits [N, L] and of the map logits [N, K, h, w], in float32."""
    with torch.autocast(maps.device.type, enabled=False):
        cell_loss, peak_loss = map_losses(maps, batch.coverage, batch.known)
        return label_loss(logits, batch.labels), 3 * cell_loss + 0.3 * peak_loss


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross entropy over the known labels; both [N, L]."""
    known = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num(), reduction="none"
    )
    return (losses * known).sum() / known.sum().clamp(min=1)


def map_losses(maps: Tensor, coverage: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of the cells, and of the peak's place; means over known maps.

    Args:
        maps: logits [N, K, h, w].
        coverage: [N, K, h, w] in [0, 1].
        known: [N, K], 0 or 1.
    """
    present = coverage.flatten(2).amax(-1) > _MIN_COVERAGE
    losses = functional.binary_cross_entropy_with_logits(maps, coverage, reduction="none")
    weight = known * torch.where(present, 1.0, _ABSENT_WEIGHT)
    cell_loss = (losses.flatten(2).mean(-1) * weight).sum() / weight.sum().clamp(min=1)
    if not present.any():
        return cell_loss, maps.sum() * 0
    log_share = maps.flatten(2)[present].log_softmax(-1)
    log_coverage = coverage.flatten(2)[present].clamp(min=1e-4, max=1).log()
    return cell_loss, -(log_share + log_coverage).logsumexp(-1).mean()
