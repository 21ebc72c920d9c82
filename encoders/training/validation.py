"""How well a model in training retrieves: recall of the own report and of the own image.

Owns the pass over the validation studies. The full tables of a finished model are made by `eval`,
which this package may not import.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.eclip.model import EclipModel
from encoders.preprocess import EvalTransform, resize_square
from encoders.training.config import TrainSettings
from encoders.training.dataset import TrainingDataError, TrainingStudy
from encoders.training.image_cache import load_images
from encoders.training.training_set import prepare_cached

_BATCH = 256
_K = 10


class Validation:
    """The first frontal image of every validation study, and its report.

    ``model`` is any of the run: how texts are prepared does not change in training.

    Raises:
        TrainingDataError: no study has a frontal image.
    """

    def __init__(
        self,
        studies: Sequence[TrainingStudy],
        *,
        settings: TrainSettings,
        model: EclipModel,
        cache: Path,
    ) -> None:
        frontal = [study for study in studies if study.frontals]
        if not frontal:
            raise TrainingDataError(
                f"validate_every is {settings.validate_every}, but none of the {len(studies)} "
                "validation studies has a frontal image; set it to 0, or bring such studies"
            )
        self._texts = [study.text for study in frontal]
        self._images = load_images(
            [study.frontals[0] for study in frontal], side=settings.cache_side, cache=cache
        )
        self._prepared = prepare_cached(
            self._texts,
            prepare=model.prepare_texts,
            settings=model.config.text_tower,
            cache=cache,
        )

    @torch.no_grad()
    def score(self, model: EclipModel, transform: EvalTransform) -> dict[str, float]:
        """R@10 both ways of a model in evaluation mode."""
        device = model.log_temperature.device
        images = embed_cached_images(model, transform, self._images)
        prepared = {name: value.to(device) for name, value in self._prepared.items()}
        reports = model.encode_text(prepared).cpu().numpy()
        return recall_both_ways(images @ reports.T, self._texts)


def recall_both_ways(
    similarity: NDArray[np.floating], texts: Sequence[str], k: int = _K
) -> dict[str, float]:
    """Share of images whose report, and of reports one of whose images, is among the first k.

    Args:
        similarity: [N, N], image by report; row i and column i are one study.
        texts: the N reports; equal ones count once.
        k: how many are looked at.
    """
    first, group = np.unique(np.asarray(texts), return_index=True, return_inverse=True)[1:]
    by_text = similarity[:, first]
    own = by_text[np.arange(len(texts)), group]
    best_image = np.full(len(first), -np.inf)
    np.maximum.at(best_image, group, own)
    return {
        f"R@{k} image to text": float(((by_text > own[:, None]).sum(1) < k).mean()),
        f"R@{k} text to image": float(((by_text > best_image).sum(0) < k).mean()),
    }


@torch.inference_mode()
def embed_cached_images(
    model: EclipModel, transform: EvalTransform, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Decoded images uint8 [N, side, side] to unit rows float32 [N, dim]."""
    device = model.log_temperature.device
    batches = (images[at : at + _BATCH] for at in range(0, len(images), _BATCH))
    rows = [
        model.encode_image(from_bytes(batch, transform).to(device)).cpu().numpy()
        for batch in batches
    ]
    return np.concatenate(rows)


def from_bytes(images: NDArray[np.uint8], transform: EvalTransform) -> torch.Tensor:
    """Decoded images as the tower reads them in evaluation: [N, channels, size, size]."""
    grey = torch.from_numpy(images.copy()).float() / 255
    return transform.normalise(transform.stretch(resize_square(grey, transform.size)))
