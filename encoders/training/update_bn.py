"""Running statistics of a trained model, computed again on plain images and reports.

The running averages of a run with expert steps are partly of what the heatmap processor made of
images, which no user's image looks like. It cost eCLIP half of its retrieval (docs/experiments.md),
and nothing of that is left after this.

Not `torch.optim.swa_utils.update_bn`: it puts the whole tower into training mode, where dropout and
skipped branches change the statistics, and knows nothing of the centres.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from encoders.eclip.model import EclipModel
from encoders.preprocess import EvalTransform
from encoders.towers.base import Prepared
from encoders.training.training_set import TrainingSet
from encoders.training.validation import from_bytes

_BATCH = 256


@torch.no_grad()
def update_bn(model: EclipModel, data: TrainingSet, *, transform: EvalTransform) -> None:
    """Compute batch-norm and centre statistics again, in place; no weight changes.

    Args:
        model: is left in evaluation mode.
        data: images and reports it was trained with; the images are not augmented.
        transform: of evaluation.
    """
    model.eval()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over all batches
        layer.train()
    for pixels in _images(data, transform):
        model.image_tower(pixels.to(_device(model)))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    model.eval()
    images = [
        model.image_projection(model.image_features(pixels.to(_device(model))))
        for pixels in _images(data, transform)
    ]
    reports = [model.text_projection(model.text_features(part)) for part in _reports(data, model)]
    model.image_centre.mean.copy_(torch.cat(images).mean(0))
    model.text_centre.mean.copy_(torch.cat(reports).mean(0))


def _device(model: EclipModel) -> torch.device:
    return model.log_temperature.device


def _images(data: TrainingSet, transform: EvalTransform) -> Iterator[Tensor]:
    for at in range(0, len(data.images), _BATCH):
        yield from_bytes(data.images[at : at + _BATCH], transform)


def _reports(data: TrainingSet, model: EclipModel) -> Iterator[Prepared]:
    for at in range(0, len(data.texts), _BATCH):
        some = slice(at, at + _BATCH)
        yield {name: value[some].to(_device(model)) for name, value in data.prepared.items()}
