"""An arm's model against the validation studies.

Owns what is embedded: the first frontal image of each study, its report, one sentence that states
and one that denies each finding. Images come from the same cache as in training.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.eclip.model import EclipModel
from encoders.eclip.weights import load_pretrained
from encoders.preprocess import EvalTransform, resize_square
from encoders.training.batches import prepare_cached
from encoders.training.config import TrainSettings
from encoders.training.dataset import Collection, Study, frequent
from encoders.training.image_cache import load_images
from experiments import ablation_measures

_AT_ONCE = 256
_NO_FINDING = "normal"


class Benchmark:
    """Validation images, reports and findings, decoded once for all arms.

    Args:
        collection: studies; training images that have labels serve the linear probe.
        settings: of any arm: size of the cached images, how rare a finding may be.
        cache: decoded images.
    """

    def __init__(self, collection: Collection, *, settings: TrainSettings, cache: Path) -> None:
        self.val = [study for study in collection.val if study.frontals]
        labelled = [study for study in collection.train if study.frontals and study.labels]
        counted = frequent((study.labels for study in labelled), least=settings.least_label_count)
        self.cache = cache
        self.findings = [name for name in counted if name != _NO_FINDING]
        self.val_truth = self._truth(self.val)
        self.train_truth = self._truth(labelled)
        self.val_images, self.train_images = (
            load_images(
                [study.frontals[0] for study in studies], side=settings.cache_side, cache=cache
            )
            for studies in (self.val, labelled)
        )

    def score(self, folder: Path) -> dict[str, float]:
        """Every measure of a model folder."""
        model, transform = load_pretrained(folder)
        images = embed_images(model, transform, self.val_images)
        texts = [study.text for study in self.val]
        reports = self._embed_texts(model, texts)
        plain = [name.lower().replace(", ", " ") for name in self.findings]
        present = self._embed_texts(model, [f"{name.capitalize()}." for name in plain])
        absent = self._embed_texts(model, [f"No {name}." for name in plain])
        known = embed_images(model, transform, self.train_images)
        return {
            **ablation_measures.retrieval(images, reports, texts),
            **ablation_measures.zero_shot(images, present, absent, self.val_truth),
            **ablation_measures.probe(known, self.train_truth, images, self.val_truth),
            **ablation_measures.embedding(images, reports),
        }

    @torch.inference_mode()
    def _embed_texts(self, model: EclipModel, texts: Sequence[str]) -> NDArray[np.float32]:
        prepared = prepare_cached(texts, model=model, cache=self.cache)
        vectors: NDArray[np.float32] = model.encode_text(prepared).numpy()
        return vectors

    def _truth(self, studies: Sequence[Study]) -> NDArray[np.bool_]:
        rows = [[name in study.labels for name in self.findings] for study in studies]
        return np.asarray(rows, dtype=bool).reshape(len(studies), len(self.findings))


@torch.inference_mode()
def embed_images(
    model: EclipModel, transform: EvalTransform, images: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Cached images uint8 [N, side, side] to unit rows float32 [N, dim]."""
    rows, device = [], model.log_temperature.device
    for at in range(0, len(images), _AT_ONCE):
        grey = torch.from_numpy(images[at : at + _AT_ONCE].copy()).float() / 255
        pixels = transform.normalise(transform.stretch(resize_square(grey, transform.size)))
        rows.append(model.encode_image(pixels.to(device)).cpu().numpy())
    return np.concatenate(rows)
