"""Before reports: the image tower and the finding maps learn from labelled images alone.

On one process: it is short, at small images.
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
_LR, _WEIGHT_DECAY, _WARM_UP, _CLIP, _EMA = 6e-4, 0.1, 0.05, 2.0, 0.997
_DROPOUT, _SMALLEST_CROP = 0.4, 0.6
"""With less regularization it learned the text-mined labels by heart (docs/experiments.md)."""


class Teacher(nn.Module):
    """An image tower with its maps, and a head for the labels that is only used here."""

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
            log_odds = self.head(features)
        labels, of_maps = labelled_losses(log_odds, maps, batch)
        return {"loss": _LABEL_WEIGHT * labels + of_maps, "labels": labels, "maps": of_maps}


def pretrain(
    chosen: PretrainSettings,
    settings: TrainSettings,
    *,
    model: EclipModel,
    data: LabelledTensors,
    out: Path,
    low_precision: torch.dtype | None = None,
    on_step: OnStep,
) -> None:
    """Pretrain the model's image tower and maps, in place; resumes, or loads what is done.

    Args:
        chosen: of this part of the run, whose folder is ``out``.
        settings: of the whole run.
        model: changed in place.
        data: of training patients.
        out: made if it is not there.
        low_precision: that towers compute in; None for float32.
        on_step: told after every step.
    """
    steps = max(1, round(chosen.epochs * len(data.images) / chosen.batch_size))
    teacher = Teacher(model, labels=len(data.label_names))
    teacher = teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = exponential_average(teacher, decay=_EMA)
    optimizer = adamw(
        teacher,
        lr=lambda name: _LR * (1 if name.startswith("image_tower.") else 2),
        weight_decay=_WEIGHT_DECAY,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, round(_WARM_UP * steps), steps)
    facts = {
        "pretrain": chosen.model_dump(mode="json"),
        "findings": model.config.findings,
        "model": settings.model.model_dump(mode="json"),
        "augment": settings.augment.model_dump(mode="json"),
        "cache_side": settings.cache_side,
        "seed": settings.seed,
    }
    of_data = data.label_names, hashlib.sha256(data.labels.tobytes()).hexdigest()
    folder = RunFolder(out, fingerprint=fingerprint(facts, *of_data))
    parts = {"teacher": teacher, "average": average, "optimizer": optimizer, "schedule": schedule}
    first = folder.load(parts)  # refuses the folder of another run, which is not written to
    folder.start(**facts, images=len(data.images), label_names=data.label_names)
    if first < steps:
        folder.trim_metrics(first)
    augment = settings.augment.model_copy(update={"smallest_crop": _SMALLEST_CROP})
    transform = EvalTransform(size=chosen.size)
    for step in range(first, steps):
        seed = step_seed(settings.seed, step=step)
        count = min(chosen.batch_size, len(data.images))
        batch = draw_labelled_batch(
            data,
            np.random.default_rng(seed).choice(len(data.images), count, replace=False),
            augment=augment,
            transform=transform,
            rng=RankRng(torch.Generator().manual_seed(seed)),
        )
        teacher.train()
        torch.manual_seed(seed)
        with torch.autocast("cpu", low_precision, enabled=low_precision is not None):
            losses = teacher(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(teacher.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        average.update_parameters(teacher)
        folder.append_metrics(step + 1, {name: loss.item() for name, loss in losses.items()})
        on_step(step + 1, steps, losses["loss"].item())
        if step + 1 == steps or (step + 1) % settings.checkpoint_every == 0:
            folder.save(step + 1, parts)
    kept = average.module
    model.image_tower.load_state_dict(kept.image_tower.state_dict())  # type: ignore[union-attr]
    if model.finding_maps is not None:
        model.finding_maps.load_state_dict(kept.finding_maps.state_dict())  # type: ignore[union-attr]
