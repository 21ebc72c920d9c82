"""An arm's model against the validation studies, by the tasks of `eval`.

Owns what is embedded (the first frontal image of each study, its report, the sentences of each
class) and which numbers of the tasks make the table. Images come from the cache of training.
"""

from pathlib import Path

import numpy as np

from encoders.eclip.encoder import load_encoder
from encoders.eclip.weights import load_pretrained
from encoders.training.config import TrainSettings
from encoders.training.dataset import Collection, TrainingStudy
from encoders.training.image_cache import load_images
from encoders.training.validation import embed_cached_images
from eval.datasets import DatasetImage, ImageDataset, class_names, classes_of, prompts
from eval.results import Result
from eval.tasks.embedding import embedding_quality
from eval.tasks.linear_probe import linear_probe
from eval.tasks.retrieval import retrieval
from eval.tasks.zero_shot import zero_shot
from eval.vectors import make_vectors, save_vectors

_TO_TEXT = "image to text, equal reports are one"
_TO_IMAGE = "text to image, any image with that report"

MEASURES = {
    **{f"R@{k} image to text": ("retrieval", _TO_TEXT, f"R@{k}") for k in (1, 5, 10)},
    **{f"R@{k} text to image": ("retrieval", _TO_IMAGE, f"R@{k}") for k in (1, 5, 10)},
    "zero-shot AUC": ("zero-shot", "all", "macro AUROC"),
    **{
        f"probe AUC, {share}": ("linear-probe", f"{share} of the training images", "macro AUROC")
        for share in ("1%", "10%", "100%")
    },
    "alignment": ("embedding", "all", "alignment"),
    "uniformity": ("embedding", "all", "uniformity (image)"),
    "modality gap": ("embedding", "all", "modality gap"),
}
"""Columns of the table: task of `eval`, subset, measure."""

LOWER_IS_BETTER = frozenset({"alignment", "uniformity", "modality gap"})

_SAMPLES = 2
"""Of the bootstrap over studies, which is not shown: the table's unit is the seed."""


class Benchmark:
    """Validation images, reports and findings, decoded once for all arms.

    Args:
        collection: studies; training images that have labels serve the linear probe.
        settings: of any arm: size of the cached images.
        cache: decoded images.
    """

    def __init__(self, collection: Collection, *, settings: TrainSettings, cache: Path) -> None:
        val = [study for study in collection.val if study.frontals]
        train = [study for study in collection.train if study.frontals and study.labels]
        self._studies = [*val, *train]
        self._texts = [study.text for study in val]
        labelled = [_labelled(study, split="val") for study in val]
        labelled += [_labelled(study, split="train") for study in train]
        classes = sorted(frozenset().union(*(image.labels for image in labelled)))
        self._data = ImageDataset(tuple(labelled), tuple(classes), single=False)
        self._images = load_images(
            [study.frontals[0] for study in self._studies], side=settings.cache_side, cache=cache
        )

    def score(self, folder: Path) -> dict[str, float]:
        """Every measure of a model folder; its vectors are kept beside it."""
        path = folder.parent / "vectors.npz"
        self._embed(folder, path)
        results = {
            "retrieval": retrieval(path, split="val", samples=_SAMPLES),
            "zero-shot": zero_shot(path, split="val", samples=_SAMPLES),
            "linear-probe": linear_probe(
                path, train_split="train", test_split="val", samples=_SAMPLES
            ),
            "embedding": embedding_quality(path, split="val", samples=_SAMPLES),
        }
        return {
            name: _value(results[task], subset=subset, measure=measure)
            for name, (task, subset, measure) in MEASURES.items()
        }

    def _embed(self, folder: Path, path: Path) -> None:
        encoder = load_encoder(folder, backend="torch")
        images = embed_cached_images(*load_pretrained(folder), self._images)
        text = np.full_like(images, np.nan)
        text[: len(self._texts)] = encoder.embed_texts(self._texts)
        vectors = make_vectors(
            self._data,
            encoder_id=encoder.encoder_id,
            image=images,
            text=text,
            prompt=encoder.embed_texts([prompt.text for prompt in prompts(self._data.classes)]),
            thumbnail=np.empty((0, 256), dtype=np.float32),
        )
        save_vectors(path, vectors)


def _labelled(study: TrainingStudy, *, split: str) -> DatasetImage:
    """A study as `eval` sees it, with the classes that Open-I's labels or CheXpert's stand for."""
    own = study.labels & frozenset(classes_of("open-i"))
    return DatasetImage(
        image_id=study.study_id,
        patient_id=study.patient_id,
        image=str(study.frontals[0]),
        labels=own | class_names("open-i", study.labels),
        text=study.text,
        split=split,
    )


def _value(result: Result, *, subset: str, measure: str) -> float:
    found = result.number(system=result.name, subset=subset, measure=measure)
    return float("nan") if found is None or found.value is None else found.value
