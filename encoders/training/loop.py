"""The one place that trains: settings and studies in, a model folder out.

Owns the order of things in a run. Accelerate moves tensors, casts and averages gradients over
ranks; it was chosen over Lightning Fabric because almost all of its dependencies are here already
(transformers needs them) and its API leaves the loop a plain one.

A run can be killed at any moment and started again with the same command: it goes on at the last
checkpoint with the same steps, draws and bits.
"""

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor

from encoders.eclip.model import EclipConfig, EclipModel
from encoders.eclip.weights import save_pretrained
from encoders.lite import EfficientNetLite
from encoders.preprocess import EvalTransform
from encoders.training.augment import augment
from encoders.training.batches import (
    TrainingSet,
    batch_rows,
    load_training_set,
    step_seed,
)
from encoders.training.checkpoint import load_checkpoint, save_checkpoint
from encoders.training.config import TrainSettings
from encoders.training.data import Collection
from encoders.training.objective import Objective
from encoders.training.optim import make_optimizer, schedule, update_average
from encoders.training.run import append_metrics, fingerprint, trim_metrics, write_run
from encoders.training.start import load_imagenet

_log = logging.getLogger(__name__)

MODEL_FOLDER = "model"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for whoever shows it."""

    step: int
    steps: int
    loss: float
    seconds_left: float


def train(
    settings: TrainSettings,
    *,
    collection: Collection,
    out: Path,
    cache: Path,
    on_step: Callable[[Progress], None] | None = None,
) -> Path:
    """Train or go on training; returns the model's folder in ``out``.

    Args:
        settings: of the run; a run folder of other settings is refused.
        collection: what to learn from. Only ``train`` is used here.
        out: run folder: run.json, metrics.csv, checkpoint, model.
        cache: decoded films.
        on_step: told after every step.

    Raises:
        TrainingDataError: the data or the run folder cannot be used.
        EncoderError: a package with starting weights is not installed.
    """
    accelerator = Accelerator(mixed_precision=settings.optim.precision)
    torch.manual_seed(settings.seed)
    model, transform = new_model(settings)
    data = load_training_set(collection.train, settings=settings, model=model, cache=cache)
    mark = fingerprint(settings.model_dump(), [study.study_id for study in collection.train])
    write_run(
        out,
        settings=settings.model_dump(),
        fingerprint=mark,
        studies=len(collection.train),
        films=len(data.study),
        left_out=collection.left_out,
        label_names=data.label_names,
    )
    run = _Run(settings, data=data, model=model, transform=transform, accelerator=accelerator)
    run.resume(out, mark)
    run.finish(out, mark, on_step)
    save_pretrained(out / MODEL_FOLDER, model=run.average.model, transform=transform)
    return out / MODEL_FOLDER


def new_model(settings: TrainSettings) -> tuple[EclipModel, EvalTransform]:
    """The untrained model of the settings, from its starting weights, and its transform."""
    chosen = settings.model
    config = EclipConfig(
        name=settings.name,
        dim=chosen.dim,
        image_tower={
            "kind": "efficientnet_lite",
            "variant": chosen.variant,
            "drop_path": chosen.drop_path,
        },
        text_tower={
            "kind": "sentence_set",
            "hidden": chosen.text_hidden,
            "sentence_dropout": chosen.sentence_dropout,
        },
        dropout=chosen.dropout,
        temperature=chosen.temperature,
    )
    model = EclipModel(config)
    if chosen.start == "imagenet" and isinstance(model.image_tower, EfficientNetLite):
        load_imagenet(model.image_tower, chosen.variant)
    return model, EvalTransform(size=settings.size)


class _Run:
    """The moving parts of a run: objective, its running average, optimiser, step."""

    def __init__(
        self,
        settings: TrainSettings,
        *,
        data: TrainingSet,
        model: EclipModel,
        transform: EvalTransform,
        accelerator: Accelerator,
    ) -> None:
        self.settings = settings
        self.data = data
        self.transform = transform
        self.accelerator = accelerator
        self.step = 0
        self.steps = settings.optim.epochs * data.steps_per_epoch(settings.optim.batch_size)
        rare_weighs_more = 1 / torch.log(2 + data.labels.sum(0))
        objective = Objective(
            model,
            label_weights=rare_weighs_more,
            targets=settings.targets,
            optim=settings.optim,
        ).to(accelerator.device)
        # Channels last: half again as fast for convolutions on a CPU, faster in bf16 everywhere.
        objective = objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(objective).eval().requires_grad_(False)
        self.objective, self.optimizer = accelerator.prepare(
            objective, make_optimizer(objective, settings)
        )

    def resume(self, out: Path, mark: str) -> None:
        """Go back to the last checkpoint of a run folder, if there is one."""
        state = load_checkpoint(out, fingerprint=mark)
        if state is None:
            return
        self.accelerator.unwrap_model(self.objective).load_state_dict(state["objective"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        trim_metrics(out, step=self.step)
        _log.info("going on at step %d of %d", self.step, self.steps)

    def finish(self, out: Path, mark: str, on_step: Callable[[Progress], None] | None) -> None:
        """Take the steps that are left."""
        began, first = time.monotonic(), self.step
        while self.step < self.steps:
            losses = self.take_step()
            if self.accelerator.is_main_process:
                append_metrics(out, step=self.step, values=losses)
                if self.step % self.settings.checkpoint_every == 0 or self.step == self.steps:
                    save_checkpoint(out, self.state(mark))
            if on_step:
                pace = (time.monotonic() - began) / (self.step - first)
                left = pace * (self.steps - self.step)
                on_step(Progress(self.step, self.steps, losses["loss"], left))

    def state(self, mark: str) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "fingerprint": mark,
            "step": self.step,
            "objective": self.accelerator.unwrap_model(self.objective).state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def take_step(self) -> dict[str, float]:
        """One batch: draw, augment, lose, learn, average. Returns the losses."""
        settings, accelerator = self.settings, self.accelerator
        torch.manual_seed(step_seed(settings.seed, step=self.step, rank=accelerator.process_index))
        factor = schedule(self.step, steps=self.steps, warm_up=settings.optim.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        self.objective.train()
        losses = self.objective(*self.batch())
        self.optimizer.zero_grad()
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(self.objective.parameters(), settings.optim.clip)
        self.optimizer.step()
        self.step += 1
        update_average(
            self.average,
            accelerator.unwrap_model(self.objective),
            decay=min(settings.optim.ema, (1 + self.step) / (10 + self.step)),
        )
        return {name: value.item() for name, value in losses.items()} | {"lr_factor": factor}

    def batch(self) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Augmented films and their reports: the pairs of this step.

        Expert pairs (heatmap processor, mixup, by the curriculum's draw) are appended here.
        """
        data, device = self.data, self.accelerator.device
        rows = batch_rows(
            self.step,
            films=len(data.study),
            batch_size=self.settings.optim.batch_size,
            seed=self.settings.seed,
        )
        films = torch.from_numpy(data.films[rows.numpy()]).to(device).float() / 255
        seen = augment(
            self.transform.stretch(films), self.settings.augment, size=self.transform.size
        )
        pixels = self.transform.normalise(seen).contiguous(memory_format=torch.channels_last)
        study = data.study[rows]
        prepared = {name: value[study].to(device) for name, value in data.prepared.items()}
        return pixels, prepared, data.texts[study].to(device), data.labels[study].to(device)
