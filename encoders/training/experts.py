"""The expert images of a training set, and which of them a step sees.

Owns their tensors and every draw of an expert step. All draws but the crops are functions of the
seed and the step, the same on every rank.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders.annotations import render
from encoders.preprocess import EvalTransform
from encoders.training.augment import ANY, Draws, draw_warp, vary_exposure, warp
from encoders.training.batches import TrainingSet, step_seed
from encoders.training.config import ExpertSettings, TrainSettings
from encoders.training.curriculum import is_expert_step
from encoders.training.dataset import ExpertImage, TrainingDataError
from encoders.training.image_cache import load_images
from encoders.training.mixup import draw_dacl_share, draw_share
from encoders.training.objective import ExpertPairs, Pairs

_CURRICULUM, _ROWS, _SHARE, _OTHER = -1, -2, -3, -4
"""In place of a rank: draws that all ranks share."""


@dataclass(frozen=True, slots=True)
class ExpertSet:
    """Images with the heatmaps of what an expert saw on them.

    Attributes:
        images: uint8 [E, side, side].
        heatmaps: uint8 [E, side, side], 255 is the most looked at.
        study: int64 [E], row of the image's study in the training set.
    """

    images: NDArray[np.uint8]
    heatmaps: NDArray[np.uint8]
    study: Tensor


def load_experts(
    experts: tuple[ExpertImage, ...], *, rows: dict[str, int], side: int, cache: Path
) -> ExpertSet:
    """Decode the images and draw their heatmaps.

    Args:
        experts: annotated images of training studies.
        rows: row of each training study, by its id.
        side: pixels.
        cache: folder for the decoded images.

    Raises:
        TrainingDataError: there are fewer than two, or one is of no training study.
    """
    if len(experts) < 2:
        raise TrainingDataError(
            f"{len(experts)} expert images; at least 2 are needed, or no [expert] in the settings"
        )
    if strangers := [image.study_id for image in experts if image.study_id not in rows]:
        raise TrainingDataError(
            f"{len(strangers)} expert images are of no training study, {strangers[0]} first; their "
            "reports must be in the collection"
        )
    heat = np.stack([render(image.annotation, height=side, width=side) for image in experts])
    return ExpertSet(
        images=load_images([image.image for image in experts], side=side, cache=cache),
        heatmaps=(heat * 255).round().astype(np.uint8),
        study=torch.tensor([rows[image.study_id] for image in experts]),
    )


def draw_is_expert(settings: TrainSettings, *, step: int, steps: int) -> bool:
    """Whether a step has expert pairs; one draw for all ranks."""
    if settings.expert is None:
        return False
    chance = settings.expert.curriculum.curriculum().probability(step, steps=steps)
    return is_expert_step(chance, step_seed(settings.seed, step=step, rank=_CURRICULUM))


def expert_pairs(
    experts: ExpertSet,
    data: TrainingSet,
    *,
    settings: TrainSettings,
    transform: EvalTransform,
    step: int,
    draws: Draws = ANY,
) -> ExpertPairs:
    """The expert half of a step: images and heatmaps under the same crops, and λ.

    Crops and exposure come from ``draws``, which also says which rows are this rank's.
    """
    chosen = settings.expert
    if chosen is None:
        raise ValueError("the settings have no [expert]")
    rows = _draw_rows(
        len(experts.study), settings=settings, chosen=chosen, step=step, ranks=draws.ranks
    )
    other = another(rows, count=len(experts.study), seed=_seed(settings.seed, step, _OTHER))
    rows, other = (all_rows[draws.rank :: draws.ranks] for all_rows in (rows, other))
    images = torch.from_numpy(experts.images[rows]).float() / 255
    maps = draw_warp(len(images), settings.augment, draws=draws)
    varied = vary_exposure(transform.stretch(images), settings.augment, draws=draws)
    pixels = transform.normalise(warp(varied, maps, size=transform.size))
    study = experts.study[torch.from_numpy(rows)]
    pairs = Pairs(
        pixels.contiguous(memory_format=torch.channels_last),
        {name: value[study] for name, value in data.prepared.items()},
        data.texts[study],
        data.labels[study],
    )
    if chosen.mixup == "dacl":
        return ExpertPairs(pairs, None, _draw_share(chosen, settings.seed, step))
    seen = other if chosen.heatmaps == "shuffled" else rows
    heat = torch.from_numpy(experts.heatmaps[seen]).float() / 255
    return ExpertPairs(
        pairs,
        warp(heat, maps, size=transform.size).clamp(0, 1),
        _draw_share(chosen, settings.seed, step),
    )


def another(rows: NDArray[np.intp], *, count: int, seed: int) -> NDArray[np.intp]:
    """For each row any other of ``count``, evenly drawn, never itself."""
    ahead = np.random.default_rng(seed).integers(1, count, size=len(rows))
    return np.asarray((rows + ahead) % count)


def _draw_rows(
    count: int, *, settings: TrainSettings, chosen: ExpertSettings, step: int, ranks: int
) -> NDArray[np.intp]:
    wanted = max(2, round(chosen.share * settings.optim.batch_size))
    wanted += -wanted % ranks  # every rank brings as many
    order = np.random.default_rng(_seed(settings.seed, step, _ROWS)).permutation(count)
    return np.resize(order, wanted)  # fewer images than wanted: round again


def _draw_share(chosen: ExpertSettings, seed: int, step: int) -> float:
    at = _seed(seed, step, _SHARE)
    if chosen.mixup == "none":
        return 0.0
    return (
        draw_dacl_share(chosen.alpha, at)
        if chosen.mixup == "dacl"
        else draw_share(chosen.alpha, at)
    )


def _seed(seed: int, step: int, purpose: int) -> int:
    return step_seed(seed, step=step, rank=purpose)
