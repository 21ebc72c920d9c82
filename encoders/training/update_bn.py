"""Statistics of a trained model, taken again on plain images and reports.

Owns batch-norm and centre statistics at the end of a run with expert steps. A running average over
such steps is of images and of what the heatmap processor made of others, which no user's image
looks
like; read with it, a plain image lands in the wrong place. It cost eCLIP half of its retrieval in
docs/experiments.md, and nothing is left of that after this.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from encoders.eclip.model import EclipModel
from encoders.preprocess import EvalTransform, resize_square
from encoders.towers.base import Prepared
from encoders.training.batches import TrainingSet

_AT_ONCE = 256


@torch.no_grad()
def update_bn(model: EclipModel, data: TrainingSet, *, transform: EvalTransform) -> None:
    """Take all running statistics again, in place; no weight changes.

    Args:
        model: is left in evaluation mode.
        data: images and reports it was trained with.
        transform: of evaluation: the images are not augmented.
    """
    model.eval()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
        layer.train()
    device = model.log_temperature.device
    for pixels in _images(data, transform):
        model.image_tower(pixels.to(device))
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum
    model.eval()
    images = [
        model.image_projection(model.image_tower(pixels.to(device)))
        for pixels in _images(data, transform)
    ]
    model.image_centre.mean.copy_(torch.cat(images).mean(0))
    reports = [
        model.text_projection(
            model.text_features({name: value.to(device) for name, value in part.items()})
        )
        for part in _reports(data)
    ]
    model.text_centre.mean.copy_(torch.cat(reports).mean(0))


def _images(data: TrainingSet, transform: EvalTransform) -> Iterator[Tensor]:
    for at in range(0, len(data.images), _AT_ONCE):
        grey = torch.from_numpy(data.images[at : at + _AT_ONCE].copy()).float() / 255
        yield transform.normalise(transform.stretch(resize_square(grey, transform.size)))


def _reports(data: TrainingSet) -> Iterator[Prepared]:
    for at in range(0, len(data.texts), _AT_ONCE):
        yield {name: value[at : at + _AT_ONCE] for name, value in data.prepared.items()}
