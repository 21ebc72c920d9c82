"""One step of training on one rank: loss, optimizer, learning rate, averaged weights.

Accelerate places tensors, casts, and averages gradients over ranks.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs  # type: ignore[import-untyped]
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

_BETAS, _WARM_UP_SHARE, _MAX_GRAD_NORM = (0.9, 0.98), 0.1, 1.0

_PROCESSOR_LR = 2.0
"""Learning rate of the heatmap processor, as a multiple of the image tower's."""

OnStep = Callable[[int, int, float], None]
"""Called after every step as (step, steps, loss)."""


def create_accelerator(settings: TrainSettings) -> Accelerator:
    """Device, precision and processes of the run.

    Raises:
        TrainingDataError: the batch does not divide by the number of processes.
    """
    optim = settings.optim
    accelerator = Accelerator(
        mixed_precision=resolve_precision(optim.precision),
        # the heatmap processor is unused in plain steps
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if optim.batch_size % accelerator.num_processes:
        raise TrainingDataError(
            f"optim.batch_size {optim.batch_size} is the total of all processes and does not "
            f"divide by {accelerator.num_processes}"
        )
    return accelerator


def resolve_precision(setting: str) -> str:
    """``auto`` is ``bf16`` where the hardware supports it, otherwise ``no``."""
    if setting != "auto":
        return setting
    return "bf16" if supports_bfloat16(gpu=torch.cuda.is_available()) else "no"


class Trainer:
    """Takes the ``steps`` of a run; ``accelerator`` is from `create_accelerator`."""

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
            self._optimizer, round(_WARM_UP_SHARE * steps), steps
        )

    @property
    def averaged(self) -> EclipModel:
        """The model with averaged weights, which is the one to save."""
        return cast(EclipModel, self._average.module.model)

    def take_step(self, batch: StepBatch) -> dict[str, float]:
        """Update the weights; returns the losses, averaged over ranks, and the learning rate."""
        accelerator = self._accelerator
        lr = self._schedule.get_last_lr()[0]
        # The random state depends on the step alone, so that a resumed run has the same bits.
        rank = accelerator.process_index
        torch.manual_seed(step_seed(self._settings.seed, step=self.step, rank=rank))
        if rank == 0:
            torch.set_rng_state(batch.rng_state)
        self._objective.train()
        main, expert, labelled = send_to_device(
            (batch.main, batch.expert, batch.labelled), accelerator.device
        )
        losses = self._objective(main, expert=expert, labelled=labelled, priming=batch.priming)
        self._optimizer.zero_grad()
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(self._objective.parameters(), _MAX_GRAD_NORM)
        self._optimizer.step()
        self._schedule.step()
        objective = accelerator.unwrap_model(self._objective)
        objective.model.bound_temperature()
        self._average.update_parameters(objective)
        self.step += 1
        means = accelerator.reduce({name: loss.detach() for name, loss in losses.items()}, "mean")
        return {name: loss.item() for name, loss in means.items()} | {"lr": lr}

    @property
    def checkpoint_parts(self) -> dict[str, Any]:
        """Objects whose state a checkpoint holds."""
        return {
            "objective": self._accelerator.unwrap_model(self._objective),
            "average": self._average,
            "optimizer": self._optimizer,
            "schedule": self._schedule,
        }


def adamw(
    module: nn.Module, *, lr: Callable[[str], float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW with a learning rate by parameter name; biases, norms and scalars do not decay."""
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
    """Learning rate of a parameter of `Objective`, by its name."""
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

    def average(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        step_decay = min(decay, (1 + int(count)) / (10 + int(count)))
        return old.lerp(new, 1 - step_decay) if old.is_floating_point() else new

    return AveragedModel(module, avg_fn=average, use_buffers=True).eval().requires_grad_(False)
