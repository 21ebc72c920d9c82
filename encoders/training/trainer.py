"""One step of training on one rank: objective, optimizer, learning rate, averaged weights.

Accelerate moves tensors, casts and averages gradients over ranks.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from accelerate import (  # type: ignore[import-untyped]
    Accelerator,
    DistributedDataParallelKwargs,
)
from accelerate.utils import send_to_device  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers import get_cosine_schedule_with_warmup

from encoders.eclip.model import EclipModel
from encoders.machine import supports_bfloat16
from encoders.training.config import TrainSettings
from encoders.training.dataloader import StepBatch, step_seed
from encoders.training.dataset import TrainingDataError
from encoders.training.objective import Objective

_BETAS, _WARM_UP, _CLIP = (0.9, 0.98), 0.1, 1.0
OnStep = Callable[[int, int, float], None]
"""Told after every step: its number, how many there are, the loss."""

_PROCESSOR_LR = 2.0
"""Of the heatmap processor, as a multiple of the image tower's."""


def new_accelerator(settings: TrainSettings) -> Accelerator:
    """How this process computes, with which others.

    Raises:
        TrainingDataError: the batch does not divide by the number of processes.
    """
    optim = settings.optim
    accelerator = Accelerator(
        mixed_precision=resolve_precision(optim.precision),
        # the processor has a part in expert steps only
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if optim.batch_size % accelerator.num_processes:
        raise TrainingDataError(
            f"optim.batch_size {optim.batch_size} is over all processes and does not divide by "
            f"{accelerator.num_processes}"
        )
    return accelerator


def resolve_precision(setting: str) -> str:
    """``auto`` is ``bf16`` where this machine computes in it, else ``no``."""
    if setting != "auto":
        return setting
    return "bf16" if supports_bfloat16(gpu=torch.cuda.is_available()) else "no"


class Trainer:
    """What learns, step by step of so many; ``accelerator`` is of `new_accelerator`."""

    def __init__(
        self, settings: TrainSettings, *, objective: Objective, steps: int, accelerator: Accelerator
    ) -> None:
        self.step = 0
        self._settings = settings
        self._accelerator = accelerator
        # Channels last: half again as fast for convolutions on a CPU, faster in bf16 everywhere.
        objective = objective.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average = exponential_average(objective, decay=settings.optim.ema)
        optimizer = adamw(
            objective,
            lr=lambda name: learning_rate(name, settings),
            weight_decay=settings.optim.weight_decay,
        )
        self._objective, self._optimizer = accelerator.prepare(objective, optimizer)
        self._schedule = get_cosine_schedule_with_warmup(
            self._optimizer, round(_WARM_UP * steps), steps
        )

    @property
    def averaged(self) -> EclipModel:
        """The running average of the model: what is kept."""
        return cast(EclipModel, self._average.module.model)

    def take_step(self, batch: StepBatch) -> dict[str, float]:
        """One batch: losses, gradients, weights, average. Returns the losses, of all ranks."""
        accelerator = self._accelerator
        lr = self._schedule.get_last_lr()[0]
        # Random state is a function of the step, so that a resumed run draws as it would have.
        rank = accelerator.process_index
        torch.manual_seed(step_seed(self._settings.seed, step=self.step, rank=rank))
        if rank == 0:
            torch.set_rng_state(batch.state)  # dropout continues where the augmentation ended
        self._objective.train()
        main, expert, labelled = send_to_device(
            (batch.main, batch.expert, batch.labelled), accelerator.device
        )
        losses = self._objective(main, expert=expert, labelled=labelled, priming=batch.priming)
        self._optimizer.zero_grad()
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(self._objective.parameters(), _CLIP)
        self._optimizer.step()
        self._schedule.step()
        objective = accelerator.unwrap_model(self._objective)
        objective.model.bound_temperature()
        self._average.update_parameters(objective)
        self.step += 1
        shown = accelerator.reduce({name: loss.detach() for name, loss in losses.items()}, "mean")
        return {name: loss.item() for name, loss in shown.items()} | {"lr": lr}

    @property
    def parts(self) -> dict[str, Any]:
        """What a checkpoint has to hold, besides the step."""
        return {
            "objective": self._accelerator.unwrap_model(self._objective),
            "average": self._average,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
        }


def adamw(
    module: nn.Module, *, lr: Callable[[str], float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW; ``lr`` goes by a parameter's name, and biases, norms and scalars do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((lr(name), decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        betas=_BETAS,
    )


def learning_rate(name: str, settings: TrainSettings) -> float:
    """Of a parameter of `Objective`: what starts at random learns faster than the image tower."""
    optim = settings.optim
    if name.startswith("model.image_tower."):
        return optim.lr
    if name.startswith("processor."):
        return optim.lr * _PROCESSOR_LR
    return optim.lr * optim.head_lr


def exponential_average(module: nn.Module, *, decay: float) -> AveragedModel:
    """Exponential moving average of weights and batch statistics, in evaluation mode.

    The decay grows to its value over the first steps, so that a short run forgets its start.
    """

    def average(kept: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        weight = min(decay, (1 + int(count)) / (10 + int(count)))
        return kept.lerp(new, 1 - weight) if kept.is_floating_point() else new

    return AveragedModel(module, avg_fn=average, use_buffers=True).eval().requires_grad_(False)
