"""The one place that trains: settings and studies in, a model folder out.

Owns the order of things in a run. A run can be killed at any moment and started again with the same
command: it goes on at the last checkpoint with the same steps, draws and bits.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]

from encoders.eclip.weights import save_pretrained
from encoders.preprocess import EvalTransform
from encoders.training.batches import TrainingSet, load_training_set
from encoders.training.best_model import Validation, as_kept, keep_if_best, load_best
from encoders.training.checkpoint import load_checkpoint, save_checkpoint
from encoders.training.config import TrainSettings
from encoders.training.curves import write_curves
from encoders.training.dataloader import BatchLoader
from encoders.training.dataset import Collection
from encoders.training.experts import ExpertSet, load_experts
from encoders.training.init_model import init_model
from encoders.training.run_folder import append_metrics, fingerprint, trim_metrics, write_run
from encoders.training.trainer import Trainer, new_accelerator

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
        collection: what to learn from; ``val`` is used only if the settings validate.
        out: run folder: run.json, metrics.csv, curves.svg, checkpoint, model.
        cache: decoded images.
        on_step: told after every step.

    Raises:
        TrainingDataError: the data, the run folder or this machine cannot be used.
        EncoderError: a package with starting weights is not installed.
    """
    accelerator = new_accelerator(settings)
    is_main = accelerator.is_main_process
    torch.manual_seed(settings.seed)
    model, transform = init_model(settings)
    data = load_training_set(collection.train, settings=settings, model=model, cache=cache)
    experts = _experts(settings, collection, cache=cache)
    validation = None
    if settings.validate_every and is_main:
        validation = Validation(collection.val, settings=settings, model=model, cache=cache)
    mark = _open_run(settings, collection, data=data, out=out, accelerator=accelerator)
    epoch = data.steps_per_epoch(settings.optim.batch_size)
    steps = settings.optim.epochs * epoch
    learner = Trainer(
        settings,
        model=model,
        label_counts=data.labels.sum(0),
        steps=steps,
        accelerator=accelerator,
    )
    feed = BatchLoader(
        settings,
        data=data,
        experts=experts,
        transform=transform,
        steps=steps,
        rank=accelerator.process_index,
        ranks=accelerator.num_processes,
    )
    books = RunFolder(settings, out=out, mark=mark, data=data, transform=transform)
    books.resume(learner, is_main=is_main)
    began, first = time.monotonic(), learner.step
    with feed.loading_ahead():
        while learner.step < steps:
            values = learner.take_step(feed.take(learner.step))
            at_end = learner.step == steps
            if validation and (at_end or learner.step % (settings.validate_every * epoch) == 0):
                values |= books.validate(learner, validation)
            if is_main:
                books.write(learner, values, at_end=at_end)
            if on_step:
                pace = (time.monotonic() - began) / (learner.step - first)
                left = pace * (steps - learner.step)
                on_step(Progress(learner.step, steps, values["loss"], left))
    if is_main:
        books.close(learner)
    accelerator.wait_for_everyone()
    return out / MODEL_FOLDER


def _experts(settings: TrainSettings, collection: Collection, *, cache: Path) -> ExpertSet | None:
    """The annotated images, where the run learns from them."""
    if settings.expert is None:
        return None
    rows = {study.study_id: row for row, study in enumerate(collection.train)}
    return load_experts(collection.experts, rows=rows, side=settings.cache_side, cache=cache)


def _open_run(
    settings: TrainSettings,
    collection: Collection,
    *,
    data: TrainingSet,
    out: Path,
    accelerator: Accelerator,
) -> str:
    """Note what the run is, and refuse a folder of another; returns the run's fingerprint."""
    chosen = settings.model_dump(mode="json")
    looked_at = collection.experts if settings.expert else ()
    mark = fingerprint(
        chosen,
        [study.study_id for study in collection.train],
        [image.study_id for image in looked_at],
    )
    if accelerator.is_main_process:
        write_run(
            out,
            settings=chosen,
            fingerprint=mark,
            expert_images=len(looked_at),
            studies=len(collection.train),
            images=len(data.study),
            left_out=collection.left_out,
            label_names=data.label_names,
            precision=accelerator.mixed_precision,
        )
    return mark


class RunFolder:
    """What a run writes into its folder, and reads from it when it goes on."""

    def __init__(
        self,
        settings: TrainSettings,
        *,
        out: Path,
        mark: str,
        data: TrainingSet,
        transform: EvalTransform,
    ) -> None:
        self._settings = settings
        self._out = out
        self._mark = mark
        self._data = data
        self._transform = transform

    def resume(self, learner: Trainer, *, is_main: bool) -> None:
        """Go back to the last checkpoint of the folder, if there is one."""
        state = load_checkpoint(self._out, fingerprint=self._mark)
        if state is None:
            return
        learner.go_back(state)
        if is_main:
            trim_metrics(self._out, step=learner.step)
            write_curves(self._out)
        _log.info("going on after step %d", learner.step)

    def validate(self, learner: Trainer, validation: Validation) -> dict[str, float]:
        """R@10 both ways of the averaged model, which is kept if none was better."""
        settings = self._settings
        model = as_kept(learner.averaged, self._data, settings=settings, transform=self._transform)
        found = validation.score(model, self._transform)
        if settings.keep == "best":
            mean = sum(found.values()) / len(found)
            keep_if_best(self._out, model, score=mean, fingerprint=self._mark)
        return {f"val {way}": value for way, value in found.items()}

    def write(self, learner: Trainer, values: dict[str, float], *, at_end: bool) -> None:
        """The numbers of a step, and a checkpoint where one is due."""
        append_metrics(self._out, step=learner.step, values=values)
        if at_end or learner.step % self._settings.checkpoint_every == 0:
            save_checkpoint(self._out, {"fingerprint": self._mark, **learner.state()})

    def close(self, learner: Trainer) -> None:
        """Write the model that the settings keep, and the curves."""
        model = learner.averaged
        if self._settings.keep == "best":
            load_best(self._out, model, fingerprint=self._mark)
        else:
            model = as_kept(model, self._data, settings=self._settings, transform=self._transform)
        save_pretrained(self._out / MODEL_FOLDER, model=model, transform=self._transform)
        write_curves(self._out)
