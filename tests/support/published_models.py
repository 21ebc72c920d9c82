"""Tiny random models in the layouts that publishers use, and images to embed with them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from encoders.base import CxrImage

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
VISION = {"image_size": 32, "patch_size": 8, **TINY}
CLIP_PROCESSOR = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "do_resize": True,
    "size": 32,
    "resample": 3,
    "do_center_crop": True,
    "crop_size": 32,
    "do_normalize": True,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
}


def made_up_image(height: int = 60, width: int = 50, *, seed: int = 0) -> CxrImage:
    """A smooth made-up image: a bright ellipse on a gradient, with noise."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    ellipse = ((rows - 0.55) / 0.3) ** 2 + ((columns - 0.6) / 0.2) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 0.02, (height, width))
    pixels = np.clip(0.2 + 0.3 * rows + 0.4 * ellipse + noise, 0, 1)
    return CxrImage(pixels.astype(np.float32), source_sha256="")


IMAGES = [
    made_up_image(90, 70, seed=0),
    made_up_image(60, 80, seed=1),
    made_up_image(64, 64, seed=2),
]


def as_picture(image: CxrImage, mode: str = "RGB") -> Image.Image:
    """An image as a user of the publisher's library would open it."""
    return Image.fromarray(np.rint(image.pixels * 255).astype(np.uint8)).convert(mode)


def publish(folder: Path, model: Any, processor: dict[str, Any], tokenizer: Path) -> Path:
    """A folder as its publisher would upload it, with random weights."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    for path in tokenizer.glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder
