"""Several encoders on one data set: every task on vectors, paired differences, cost per image."""

import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from encoders.base import CxrImage, ImageEncoder, embeds_texts
from eval.datasets import DatasetLayout, read_layout
from eval.embedding import embed
from eval.errors import EvalUsageError
from eval.metrics.base import Direction
from eval.results import MetricValue, Result, file_facts, numbers_of, task_card
from eval.stats import LEVEL, Figure
from eval.tasks.embedding import quality_figures
from eval.tasks.linear_probe import probe_figure, probe_scores, probed_classes
from eval.tasks.retrieval import rank, rank_figures, searches
from eval.tasks.zero_shot import area_figure, class_scores
from eval.vectors import Vectors

COST = "ms per image"


class EncoderComparison(BaseModel):
    """What to compare, and on which images; paths are relative to the file.

    Attributes:
        encoders: as `encoders.registry` names them; the first is what the others are compared with.
        table: of the data set.
        layout: which data set it is.
        images: folder of the images; by default the table's.
        train_split, test_split: to train the probe on, and to measure on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoders: tuple[str, ...] = Field(min_length=1)
    table: Path
    layout: DatasetLayout = DatasetLayout.TABLE
    images: Path | None = None
    train_split: str = "train"
    test_split: str = "val"


def read_comparison(path: Path) -> EncoderComparison:
    """A comparison from its file.

    Raises:
        EvalUsageError: it is missing, no TOML, or has other keys.
    """
    try:
        asked = EncoderComparison(**tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise EvalUsageError(f"{path} cannot be used: {error}") from error
    table = path.parent / asked.table
    images = path.parent / asked.images if asked.images else table.parent
    return asked.model_copy(update={"table": table, "images": images})


def compare_encoders(
    asked: EncoderComparison,
    *,
    load: Callable[[str], ImageEncoder],
    samples: int,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Embed the data set with each encoder, one after the other, and score them alike.

    Raises:
        EvalUsageError: a split is missing, or an encoder is named twice.
        EvalDataError: an image cannot be read.
        EvalLeakError: a patient is in both splits.
    """
    data = read_layout(asked.layout, asked.table)
    folder = asked.images or asked.table.parent
    reported = {image.image_id for image in data.images if image.text}
    figures: dict[str, list[Figure]] = {}
    costs: list[MetricValue] = []
    for name in asked.encoders:
        say(f"{name} ")
        encoder = _Timed(load(name))
        vectors = embed(data, folder=folder, encoder=encoder, say=say)
        if encoder.encoder_id in figures:
            raise EvalUsageError(f"{asked.encoders} name one encoder twice: {encoder.encoder_id}")
        train, test = vectors.splits_apart(asked.train_split, asked.test_split)
        if reported:
            test = test.where(np.array([name in reported for name in test.image_ids]))
        figures[encoder.encoder_id] = _figures(train, test, seed=seed)
        cost = 1000 * encoder.seconds / len(vectors)
        count, lower = len(vectors), Direction.LOWER.value
        costs.append(MetricValue(encoder.encoder_id, "all", COST, cost, None, None, count, lower))
    named = [(system, "all", each) for system, found in figures.items() for each in found]
    base, *others = figures
    named += [
        (system, f"minus {base}", _difference(each, first))
        for system in others
        for each in figures[system]
        for first in figures[base]
        if each.names == first.names
    ]
    numbers = numbers_of(named, patients=test.patient_ids, samples=samples, seed=seed)
    return Result(
        task="encoders",
        name=f"{len(figures)} encoders",
        models={"encoder_id": list(figures)},
        dataset={
            "table": file_facts(asked.table),
            "fingerprint": test.fingerprint,
            "studies": len(test),
            "patients": len(set(test.patient_ids)),
        },
        settings={"level": LEVEL, "samples": samples, "seed": seed, "test": asked.test_split},
        cards=[task_card("encoders", [*dict.fromkeys(n.measure for n in numbers), COST])],
        numbers=[*numbers, *costs],
        notes=[f"{len(train)} images to train probes on; {COST} on this machine, as it was busy"],
    )


class _Timed:
    """An encoder with a clock at its images."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder
        self.encoder_id, self.dim = encoder.encoder_id, encoder.dim
        self.preprocess_hash = encoder.preprocess_hash
        self.seconds = 0.0
        if embeds_texts(encoder):
            self.embed_texts = encoder.embed_texts

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        """As the encoder does."""
        started = time.perf_counter()
        vectors = self._encoder.embed_images(images)
        self.seconds += time.perf_counter() - started
        return vectors


def _figures(train: Vectors, test: Vectors, *, seed: int) -> list[Figure]:
    """What can be measured of an encoder: without texts only the probe."""
    classes = probed_classes(train, test)
    scores = list(
        probe_scores(train.image, test.image, train=train, classes=classes, share=1.0, seed=seed)
    )
    figures = [probe_figure(scores, test, classes).renamed("probe: ", first=1)]
    if not len(test.prompt):
        return figures
    areas = area_figure(test, class_scores(test))
    figures.insert(0, areas.renamed("zero-shot: ", first=2))
    if not any(test.text_ids):
        return figures
    for search in searches(test):
        if search.name.endswith(("own report", "own image")):
            figures += [each.renamed(f"{search.name}: ") for each in rank_figures(*rank(search))]
    image, text = test.image.astype(np.float64), test.text.astype(np.float64)
    return figures + quality_figures(image, text)


def _difference(figure: Figure, base: Figure) -> Figure:
    """The figure's values minus the base's, on the same resampled patients."""
    return replace(figure, values=lambda weights: figure.values(weights) - base.values(weights))
