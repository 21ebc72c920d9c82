"""EfficientNet-Lite against the published weights."""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoders.packaged_weights import EncoderError
from encoders.towers.efficientnet_lite import IMAGENET, EfficientNetLite

CHEETAH = 293  # the class of ImageNet-1k


def cheetah() -> torch.Tensor:
    """The central square of a photograph in Gradio, preprocessed as the model card says."""
    gradio = find_spec("gradio")
    assert gradio is not None
    assert gradio.origin is not None
    path = Path(gradio.origin).parent / "media_assets" / "images" / "cheetah1.jpg"
    if not path.is_file():
        pytest.skip("this version of gradio has no cheetah1.jpg")
    photo = Image.open(path).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.crop((left, top, left + side, top + side)).resize((224, 224))
    pixels = torch.from_numpy(np.asarray(square, dtype=np.float32).copy())
    return ((pixels - 127) / 128).permute(2, 0, 1).unsqueeze(0)


PROBABILITY = {"lite0": 0.7388, "lite2": 0.9723}
"""Of the class cheetah; lite0's by its own package, with features equal to ours to the bit; lite2's
by ours, to show that the published weights fit."""
SIZE = {"lite0": 3_371_008, "lite2": 4_811_072}


@pytest.mark.parametrize("variant", IMAGENET)
def test_the_published_weights_recognize_a_cheetah(variant: str) -> None:
    published = IMAGENET[variant]
    try:
        metadata.distribution(published.distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{published.distribution} is not installed (requirements-data.txt)")
    tower = EfficientNetLite(variant).eval()
    tower.load_imagenet()
    head = torch.load(published.locate(), weights_only=True)
    with torch.inference_mode():
        scores = (tower(cheetah()) @ head["_fc.weight"].T + head["_fc.bias"]).softmax(1)[0]
    assert int(scores.argmax()) == CHEETAH
    assert float(scores[CHEETAH]) == pytest.approx(PROBABILITY[variant], abs=0.01)


@pytest.mark.parametrize("variant", IMAGENET)
def test_the_number_of_parameters_is_as_published(variant: str) -> None:
    tower = EfficientNetLite(variant)
    assert sum(parameter.numel() for parameter in tower.parameters()) == SIZE[variant]


@pytest.mark.parametrize("shape", [(64, 64), (65, 63), (33, 96)])
def test_images_of_any_size_give_features_of_the_width(shape: tuple[int, int]) -> None:
    tower = EfficientNetLite("lite0").eval()
    with torch.inference_mode():
        assert tower(torch.zeros(2, 3, *shape)).shape == (2, tower.width)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(EncoderError, match="lite0"):
        EfficientNetLite("lite9")
