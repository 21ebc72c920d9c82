"""One step of training, and the state that it changes.

Owns objective, running average and optimiser, on one rank. Accelerate moves tensors, casts and
averages gradients over ranks; it was chosen over Lightning Fabric because almost all of its
dependencies are here already (transformers needs them) and its API leaves the loop a plain one.
"""

import copy
from typing import Any

import torch
from accelerate import (  # type: ignore[import-untyped]
    Accelerator,
    DistributedDataParallelKwargs,
)
from torch import Tensor

from encoders.eclip.heatmap import build_processor
from encoders.eclip.model import EclipModel
from encoders.precision import computes_bfloat16
from encoders.training.batches import step_seed
from encoders.training.config import TrainSettings
from encoders.training.dataloader import StepBatch
from encoders.training.dataset import TrainingDataError
from encoders.training.objective import Objective
from encoders.training.optim import make_optimizer, schedule, update_average


def new_accelerator(settings: TrainSettings) -> Accelerator:
    """How this process computes, with which others.

    Raises:
        TrainingDataError: the settings do not fit the machine or the number of processes.
    """
    optim = settings.optim
    if optim.precision == "fp16" and not torch.cuda.is_available():
        raise TrainingDataError("optim.precision fp16 needs a GPU; bf16 works on a CPU as well")
    accelerator = Accelerator(
        mixed_precision=precision_of(optim.precision),
        # the processor has a part in expert steps only
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if optim.batch_size % accelerator.num_processes:
        raise TrainingDataError(
            f"optim.batch_size {optim.batch_size} is over all processes and does not divide by "
            f"{accelerator.num_processes}"
        )
    return accelerator


def precision_of(setting: str) -> str:
    """``auto`` is ``bf16`` where this machine computes in it, else ``no``."""
    if setting != "auto":
        return setting
    return "bf16" if computes_bfloat16(gpu=torch.cuda.is_available()) else "no"


class Trainer:
    """What learns, step by step.

    Args:
        settings: of the run.
        model: to be trained.
        label_counts: float32 [L], training studies with each finding.
        steps: of the whole run.
        accelerator: of `new_accelerator`.
    """

    def __init__(
        self,
        settings: TrainSettings,
        *,
        model: EclipModel,
        label_counts: Tensor,
        steps: int,
        accelerator: Accelerator,
    ) -> None:
        self.step = 0
        self._settings = settings
        self._steps = steps
        self._accelerator = accelerator
        expert = settings.expert
        rare_weighs_more = 1 / torch.log(2 + label_counts)
        objective = Objective(
            model,
            label_weights=rare_weighs_more,
            targets=settings.targets,
            optim=settings.optim,
            processor=build_processor(expert.processor)
            if expert is not None and expert.has_processor
            else None,
        ).to(accelerator.device)
        # Channels last: half again as fast for convolutions on a CPU, faster in bf16 everywhere.
        objective = objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = copy.deepcopy(objective).eval().requires_grad_(False)
        self._objective, self._optimizer = accelerator.prepare(
            objective, make_optimizer(objective, settings)
        )

    @property
    def averaged(self) -> EclipModel:
        """The running average of the model: what is validated and kept."""
        model: EclipModel = self._average.model
        return model

    def take_step(self, seen: StepBatch) -> dict[str, float]:
        """One batch: lose, learn, average. Returns the losses, of all ranks."""
        optim, accelerator = self._settings.optim, self._accelerator
        factor = self._begin_step(seen.state)
        losses = self._objective(
            seen.main.to(accelerator.device),
            expert=seen.expert.to(accelerator.device) if seen.expert else None,
            priming=seen.priming,
        )
        self._optimizer.zero_grad()
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(self._objective.parameters(), optim.clip)
        self._optimizer.step()
        objective = accelerator.unwrap_model(self._objective)
        objective.model.bound_temperature()
        self.step += 1
        decay = min(optim.ema, (1 + self.step) / (10 + self.step))
        update_average(self._average, objective, decay=decay)
        shown = accelerator.reduce({name: loss.detach() for name, loss in losses.items()}, "mean")
        return {name: loss.item() for name, loss in shown.items()} | {"lr_factor": factor}

    def _begin_step(self, drawn: Tensor) -> float:
        """What a step takes from its number: random state and learning rate. Returns its factor."""
        rank = self._accelerator.process_index
        torch.manual_seed(step_seed(self._settings.seed, step=self.step, rank=rank))
        if rank == 0:
            torch.set_rng_state(drawn)  # dropout goes on where the augmentation ended
        factor = schedule(self.step, steps=self._steps, warm_up=self._settings.optim.warm_up)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        self._objective.train()
        return factor

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        scaler = self._accelerator.scaler  # of fp16
        return {
            "step": self.step,
            "objective": self._accelerator.unwrap_model(self._objective).state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def go_back(self, state: dict[str, Any]) -> None:
        """Be again what `state` described."""
        self._accelerator.unwrap_model(self._objective).load_state_dict(state["objective"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
