"""How weights move: the optimiser, its learning rate over the run, and the average that is kept.

All functions of the step, so that nothing but the step has to be remembered of a schedule.
"""

import math

import torch
from torch import nn

from encoders.training.config import TrainSettings
from encoders.training.objective import Objective


def make_optimizer(objective: Objective, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW; what starts at random learns faster, biases, norms and scalars do not decay."""
    optim = settings.optim
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        lr = optim.lr * _pace(name, settings)
        decay = optim.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay}
            for (lr, decay), parameters in groups.items()
        ],
        betas=optim.betas,
    )


def _pace(name: str, settings: TrainSettings) -> float:
    """Learning rate of a parameter as a multiple of the image tower's."""
    if name.startswith("model.image_tower."):
        return 1.0
    if name.startswith("processor.") and settings.expert is not None:
        return settings.expert.processor_lr
    return settings.optim.head_lr


def schedule(step: int, *, steps: int, warm_up: float) -> float:
    """Factor on the learning rate: linear warm-up, then half a cosine over the whole run."""
    rising = (step + 1) / max(1.0, warm_up * steps)
    return min(1.0, rising) * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, *, decay: float) -> None:
    """Exponential moving average of every float tensor, batch statistics included."""
    for kept, new in zip(average.state_dict().values(), current.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)
