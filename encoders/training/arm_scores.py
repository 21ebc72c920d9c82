"""An arm's model against the validation studies.

Owns what is embedded: the first frontal film of each study, its report, one sentence that states
and one that denies each finding. Films come from the same cache as in training.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.eclip.model import EclipModel
from encoders.eclip.weights import load_pretrained
from encoders.preprocess import EvalTransform, resize_square
from encoders.training import arm_measures
from encoders.training.batches import prepare_cached
from encoders.training.config import TrainSettings
from encoders.training.data import Collection, Study, frequent
from encoders.training.films import load_films

_AT_ONCE = 256
_NO_FINDING = "normal"


class Benchmark:
    """Validation films, reports and findings, decoded once for all arms.

    Args:
        collection: studies; training films that have labels serve the linear probe.
        settings: of any arm: size of the cached films, how rare a finding may be.
        cache: decoded films.
    """

    def __init__(self, collection: Collection, *, settings: TrainSettings, cache: Path) -> None:
        self.val = [study for study in collection.val if study.frontals]
        labelled = [study for study in collection.train if study.frontals and study.labels]
        counted = frequent((study.labels for study in labelled), least=settings.least_label_count)
        self.cache = cache
        self.findings = [name for name in counted if name != _NO_FINDING]
        self.val_truth = self._truth(self.val)
        self.train_truth = self._truth(labelled)
        self.val_films, self.train_films = (
            load_films(
                [study.frontals[0] for study in studies], side=settings.cache_side, cache=cache
            )
            for studies in (self.val, labelled)
        )

    def score(self, folder: Path) -> dict[str, float]:
        """Every measure of a model folder."""
        model, transform = load_pretrained(folder)
        films = embed_films(model, transform, self.val_films)
        texts = [study.text for study in self.val]
        reports = self._embed_texts(model, texts)
        plain = [name.lower().replace(", ", " ") for name in self.findings]
        present = self._embed_texts(model, [f"{name.capitalize()}." for name in plain])
        absent = self._embed_texts(model, [f"No {name}." for name in plain])
        known = embed_films(model, transform, self.train_films)
        return {
            **arm_measures.retrieval(films, reports, texts),
            **arm_measures.zero_shot(films, present, absent, self.val_truth),
            **arm_measures.probe(known, self.train_truth, films, self.val_truth),
            **arm_measures.embedding(films, reports),
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
def embed_films(
    model: EclipModel, transform: EvalTransform, films: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Cached films uint8 [N, side, side] to unit rows float32 [N, dim]."""
    rows, device = [], model.log_temperature.device
    for at in range(0, len(films), _AT_ONCE):
        grey = torch.from_numpy(films[at : at + _AT_ONCE].copy()).float() / 255
        pixels = transform.normalise(transform.stretch(resize_square(grey, transform.size)))
        rows.append(model.encode_image(pixels.to(device)).cpu().numpy())
    return np.concatenate(rows)
