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
from accelerate import (  # type: ignore[import-untyped]
    Accelerator,
    DistributedDataParallelKwargs,
)
from torch import nn

from encoders.eclip.heatmap import build_processor
from encoders.eclip.model import EclipConfig, EclipModel
from encoders.eclip.weights import load_pretrained, save_pretrained
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
from encoders.training.data import Collection, TrainingDataError
from encoders.training.experts import ExpertSet, draw_is_expert, expert_pairs, load_experts
from encoders.training.objective import ExpertPairs, Objective, Pairs
from encoders.training.optim import make_optimizer, schedule, update_average
from encoders.training.run import append_metrics, fingerprint, trim_metrics, write_run
from encoders.training.settle import settle
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
    accelerator = Accelerator(
        mixed_precision=settings.optim.precision,
        # the processor has a part in expert steps only
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    torch.manual_seed(settings.seed)
    model, transform = new_model(settings)
    data = load_training_set(collection.train, settings=settings, model=model, cache=cache)
    experts = None
    if settings.expert is not None:
        rows = {study.study_id: row for row, study in enumerate(collection.train)}
        experts = load_experts(collection.experts, rows=rows, side=settings.cache_side, cache=cache)
    mark = fingerprint(
        settings.model_dump(mode="json"),
        [study.study_id for study in collection.train],
        [film.study_id for film in collection.experts] if experts else [],
    )
    if settings.optim.batch_size % accelerator.num_processes:
        raise TrainingDataError(
            f"optim.batch_size {settings.optim.batch_size} is over all processes and does not "
            f"divide by {accelerator.num_processes}"
        )
    if accelerator.is_main_process:
        write_run(
            out,
            settings=settings.model_dump(mode="json"),
            fingerprint=mark,
            expert_films=len(collection.experts) if experts else 0,
            studies=len(collection.train),
            films=len(data.study),
            left_out=collection.left_out,
            label_names=data.label_names,
        )
    run = _Run(
        settings,
        data=data,
        experts=experts,
        model=model,
        transform=transform,
        accelerator=accelerator,
    )
    run.resume(out, mark)
    run.finish(out, mark, on_step)
    if settings.settle:
        settle(run.average.model, data, transform=transform)
    if accelerator.is_main_process:
        save_pretrained(out / MODEL_FOLDER, model=run.average.model, transform=transform)
    return out / MODEL_FOLDER


def new_model(settings: TrainSettings) -> tuple[EclipModel, EvalTransform]:
    """The untrained model of the settings, from its starting weights, and its transform."""
    chosen = settings.model
    if chosen.start_from is not None:
        model, transform = load_pretrained(chosen.start_from)
        return model.requires_grad_(True), transform
    config = EclipConfig(
        name=settings.name,
        dim=chosen.dim,
        image_tower=chosen.image_tower
        or {
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
        experts: ExpertSet | None,
        model: EclipModel,
        transform: EvalTransform,
        accelerator: Accelerator,
    ) -> None:
        self.settings = settings
        self.data = data
        self.experts = experts
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
            processor=_processor(settings),
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
        if self.accelerator.is_main_process:
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
        losses = self.objective(self.batch(), expert=self.expert(), priming=self.priming())
        self.optimizer.zero_grad()
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(self.objective.parameters(), settings.optim.clip)
        self.optimizer.step()
        accelerator.unwrap_model(self.objective).model.bound_temperature()
        self.step += 1
        update_average(
            self.average,
            accelerator.unwrap_model(self.objective),
            decay=min(settings.optim.ema, (1 + self.step) / (10 + self.step)),
        )
        return {name: value.item() for name, value in losses.items()} | {"lr_factor": factor}

    def batch(self) -> Pairs:
        """Augmented films and their reports: the main pairs of this step."""
        data, device = self.data, self.accelerator.device
        rows = batch_rows(
            self.step,
            films=len(data.study),
            batch_size=self.settings.optim.batch_size,
            seed=self.settings.seed,
        )
        rows = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        films = torch.from_numpy(data.films[rows.numpy()]).to(device).float() / 255
        seen = augment(
            self.transform.stretch(films), self.settings.augment, size=self.transform.size
        )
        pixels = self.transform.normalise(seen).contiguous(memory_format=torch.channels_last)
        study = data.study[rows]
        prepared = {name: value[study].to(device) for name, value in data.prepared.items()}
        return Pairs(pixels, prepared, data.texts[study].to(device), data.labels[study].to(device))

    def expert(self) -> ExpertPairs | None:
        """The expert pairs of this step, or None by the curriculum's draw."""
        if self.experts is None or not draw_is_expert(
            self.settings, step=self.step, steps=self.steps
        ):
            return None
        pairs = expert_pairs(
            self.experts,
            self.data,
            settings=self.settings,
            transform=self.transform,
            step=self.step,
            rank=self.accelerator.process_index,
            ranks=self.accelerator.num_processes,
        )
        return pairs.to(self.accelerator.device)

    def priming(self) -> float:
        """Weight of the priming loss in this step."""
        chosen = self.settings.expert
        if chosen is None or chosen.mixup == "dacl":
            return 0.0
        cold = chosen.curriculum.curriculum().is_cold(self.step, steps=self.steps)
        return chosen.priming_weight if cold else 0.0


def _processor(settings: TrainSettings) -> nn.Module | None:
    if settings.expert is None or settings.expert.mixup == "dacl":
        return None
    return build_processor(settings.expert.processor)
