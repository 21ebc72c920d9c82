"""Pretraining of the image tower and finding maps on labelled images, before reports.

Runs in one process: it is short, on small images.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import get_cosine_schedule_with_warmup

from encoders.eclip.model import EclipModel
from encoders.preprocess import EvalTransform
from encoders.training.augment import RankRng
from encoders.training.config import PretrainSettings, TrainSettings
from encoders.training.dataloader import step_seed
from encoders.training.labelled import (
    LabelledBatch,
    LabelledTensors,
    draw_labelled_batch,
    labelled_losses,
)
from encoders.training.run_folder import RunFolder, fingerprint
from encoders.training.trainer import OnStep, adamw, exponential_average

_LABEL_WEIGHT = 10.0
_LR, _WEIGHT_DECAY, _WARM_UP_SHARE, _MAX_GRAD_NORM, _EMA = 6e-4, 0.1, 0.05, 2.0, 0.997
_DROPOUT, _SMALLEST_CROP = 0.4, 0.6
"""With less regularization it memorized the text-mined labels (docs/experiments.md)."""


class PretrainModel(nn.Module):
    """The image tower and finding maps of a model, with a temporary label head."""

    def __init__(self, model: EclipModel, *, labels: int) -> None:
        super().__init__()
        self.image_tower = model.image_tower
        self.finding_maps = model.finding_maps
        self.head = nn.Linear(model.image_projection.in_features, labels)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, batch: LabelledBatch) -> dict[str, Tensor]:
        """Scalars ``loss``, ``labels`` and ``maps``."""
        mid, deep = self.image_tower.grids(batch.pixels)  # type: ignore[operator]
        features = self.dropout(deep.float().mean((-2, -1)))
        maps = self.finding_maps(mid, deep)  # type: ignore[misc]
        with torch.autocast(batch.pixels.device.type, enabled=False):
            logits = self.head(features)
        label_loss, map_loss = labelled_losses(logits, maps, batch)
        return {
            "loss": _LABEL_WEIGHT * label_loss + map_loss,
            "labels": label_loss,
            "maps": map_loss,
        }


def pretrain(
    settings: TrainSettings,
    pretrain_settings: PretrainSettings,
    *,
    model: EclipModel,
    data: LabelledTensors,
    out: Path,
    low_precision: torch.dtype | None = None,
    on_step: OnStep,
) -> None:
    """Pretrain the model in place, or resume; loads the result if it is already done.

    Args:
        settings: of the whole run.
        pretrain_settings: of this part.
        model: changed in place.
        data: of training patients.
        out: folder of this part.
        low_precision: of the towers; None for float32.
        on_step: called after every step.
    """
    steps = max(
        1, round(pretrain_settings.epochs * len(data.images) / pretrain_settings.batch_size)
    )
    learner = PretrainModel(model, labels=len(data.label_names))
    learner = learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = exponential_average(learner, decay=_EMA)
    optimizer = adamw(
        learner,
        lr=lambda name: _LR * (1 if name.startswith("image_tower.") else 2),
        weight_decay=_WEIGHT_DECAY,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, round(_WARM_UP_SHARE * steps), steps)
    run_info = {
        "pretrain": pretrain_settings.model_dump(mode="json"),
        "findings": model.config.findings,
        "model": settings.model.model_dump(mode="json"),
        "augment": settings.augment.model_dump(mode="json"),
        "cache_side": settings.cache_side,
        "seed": settings.seed,
    }
    labels_hash = hashlib.sha256(data.labels.tobytes()).hexdigest()
    folder = RunFolder(out, fingerprint=fingerprint(run_info, data.label_names, labels_hash))
    parts = {"teacher": learner, "average": average, "optimizer": optimizer, "schedule": schedule}
    first = folder.load(parts)  # before anything is written: refuses the folder of another run
    folder.start(**run_info, images=len(data.images), label_names=data.label_names)
    if first < steps:
        folder.trim_metrics(first)
    augment = settings.augment.model_copy(update={"smallest_crop": _SMALLEST_CROP})
    transform = EvalTransform(size=pretrain_settings.size)
    for step in range(first, steps):
        seed = step_seed(settings.seed, step=step)
        count = min(pretrain_settings.batch_size, len(data.images))
        batch = draw_labelled_batch(
            data,
            np.random.default_rng(seed).choice(len(data.images), count, replace=False),
            augment=augment,
            transform=transform,
            rng=RankRng(torch.Generator().manual_seed(seed)),
        )
        learner.train()
        torch.manual_seed(seed)
        with torch.autocast("cpu", low_precision, enabled=low_precision is not None):
            losses = learner(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(learner.parameters(), _MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        average.update_parameters(learner)
        folder.append_metrics(step + 1, {name: loss.item() for name, loss in losses.items()})
        on_step(step + 1, steps, losses["loss"].item())
        if step + 1 == steps or (step + 1) % settings.checkpoint_every == 0:
            folder.save(step + 1, parts)
    averaged = average.module
    model.image_tower.load_state_dict(averaged.image_tower.state_dict())  # type: ignore[union-attr]
    if model.finding_maps is not None:
        model.finding_maps.load_state_dict(averaged.finding_maps.state_dict())  # type: ignore[union-attr]
