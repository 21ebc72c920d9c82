"""Every number of the encoder's model card, from one command.

``python -m experiments.validate_encoder [--model FOLDER] [--data FOLDER] [--json FILE]``

Asks with the frontal image of each validation study. `R@k` and the rank: its own report among the
validation reports. The rest: the five nearest training reports, and the findings (MeSH headings)
they share with the image's own report, beside what trivial retrievers reach.
"""

import argparse
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageTextEncoder
from encoders.eclip import load_encoder
from encoders.images.image_io import read_image
from encoders.training.dataset import Collection, clean, frequent, label_matrix
from encoders.training.sources.openi import read_openi
from eval.metrics.base import Direction
from eval.ranking import Ranks, own_ranks, weighted_median
from eval.results import MetricValue
from eval.tasks.common import Figure, mean_figure, numbers_of
from experiments.agreement import NEIGHBOURS, agreement_figures, nearest

MIN_LABEL_COUNT = 20
"""Findings with fewer training studies are left out."""

SHOWN = (
    "Cardiomegaly",
    "Pleural Effusion",
    "Pulmonary Atelectasis",
    "Opacity",
    "Calcified Granuloma",
    "Pulmonary Congestion",
    "Emphysema",
    "normal",
)
"""Labels with an AUC of their own in the card."""

SAMPLES = 1000
"""Of the bootstrap over studies."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EmbeddedCollection:
    """A collection as an encoder sees it, unit rows float32 [studies, D].

    Attributes:
        val_all_views: every image of a study, frontal and lateral, averaged.
        train_images: NaN where a study has no frontal image.
    """

    val_images: Vectors
    val_all_views: Vectors
    val_reports: Vectors
    train_images: Vectors
    train_reports: Vectors


def embed(encoder: ImageTextEncoder, collection: Collection) -> EmbeddedCollection:
    """Embed queries and reports."""

    def mean_vector(images: Sequence[Path]) -> Vectors:
        if not images:
            return np.full(encoder.dim, np.nan, dtype=np.float32)
        mean = encoder.embed_images([read_image(image) for image in images]).mean(0)
        return np.asarray(mean / np.linalg.norm(mean))

    val, train = collection.val, collection.train
    return EmbeddedCollection(
        val_images=np.stack([mean_vector(study.frontals[:1]) for study in val]),
        val_all_views=np.stack([mean_vector(study.frontals + study.laterals) for study in val]),
        val_reports=encoder.embed_texts([study.text for study in val]),
        train_images=np.stack([mean_vector(study.frontals[:1]) for study in train]),
        train_reports=encoder.embed_texts([study.text for study in train]),
    )


def retrievers(embedded: EmbeddedCollection, collection: Collection) -> dict[str, NDArray[np.intp]]:
    """For each way to retrieve: rows of the training studies, one line a validation study."""
    queries, reports = len(collection.val), len(collection.train)
    texts = [study.text for study in collection.train]
    usual = texts.index(Counter(texts).most_common(1)[0][0])
    image_similarity = np.nan_to_num(embedded.val_images @ embedded.train_images.T, nan=-np.inf)
    random = np.random.default_rng(0).integers(reports, size=(queries, NEIGHBOURS))
    return {
        "image to report": nearest(embedded.val_images @ embedded.train_reports.T),
        "all views to report": nearest(embedded.val_all_views @ embedded.train_reports.T),
        "own report to report (ceiling)": nearest(embedded.val_reports @ embedded.train_reports.T),
        "image to image": nearest(image_similarity),
        "most common report": np.full((queries, NEIGHBOURS), usual),
        "random reports": random,
    }


def measure(embedded: EmbeddedCollection, collection: Collection) -> list[MetricValue]:
    """All measures of all retrievers, with intervals over the validation studies."""
    names = frequent((study.labels for study in collection.train), least=MIN_LABEL_COUNT)
    said, truth = (
        label_matrix([study.labels for study in studies], names)
        for studies in (collection.train, collection.val)
    )
    figures = {
        system: agreement_figures(hits, said=said, truth=truth, names=names, shown=SHOWN)
        for system, hits in retrievers(embedded, collection).items()
    }
    texts = [study.text for study in collection.val]
    figures["image to report"] += rank_figures(embedded.val_images @ embedded.val_reports.T, texts)
    figures["all views to report"] += rank_figures(
        embedded.val_all_views @ embedded.val_reports.T, texts
    )
    patients = [study.patient_id for study in collection.val]
    return [
        value
        for system, of_system in figures.items()
        for figure in of_system
        for value in numbers_of(
            figure, system=system, subset="val", patients=patients, samples=SAMPLES, seed=0
        )
    ]


def rank_figures(similarity: NDArray[np.floating], texts: Sequence[str]) -> list[Figure]:
    """Recall and median rank of each image's own report; equal reports are one.

    Args:
        similarity: [N, N], image by report; row i and column i are one study.
        texts: the N reports.
    """
    first, group = np.unique(np.asarray(texts), return_index=True, return_inverse=True)[1:]
    distinct = similarity[:, first].astype(np.float64)
    ranks = Ranks(*own_ranks(distinct, distinct[np.arange(len(texts)), group]))
    recalls = {f"R@{k}": (Direction.HIGHER, ranks.recall(k)) for k in (1, 5, 10)}
    places = ranks.rank()
    median = Figure(
        ("median rank",),
        (Direction.LOWER,),
        (len(texts),),
        lambda weights: weighted_median(places, weights)[:, None],
    )
    return [mean_figure(recalls), median]


def as_markdown(values: Iterable[MetricValue]) -> str:
    """One line a measure, one column a system, with intervals."""
    cells: dict[str, dict[str, str]] = {}
    for one in values:
        shown = "" if one.value is None else f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        cells.setdefault(one.measure, {})[one.system] = shown
    systems = list(dict.fromkeys(system for row in cells.values() for system in row))
    lines = ["| |" + "".join(f" {name} |" for name in systems), "|---|" + "---|" * len(systems)]
    for name, row in cells.items():
        lines.append(f"| {name} |" + "".join(f" {row.get(system, '')} |" for system in systems))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; with --json also write every value with its interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("--model", type=Path, help="model folder; the shipped one if left out")
    parser.add_argument("--data", type=Path, default=data, help="Open-I folder")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    encoder = load_encoder(chosen.model)
    collection = clean(read_openi(chosen.data))
    values = measure(embed(encoder, collection), collection)
    print(f"{encoder.encoder_id}, {len(collection.val)} validation studies")  # noqa: T201
    print(as_markdown(values))  # noqa: T201
    if chosen.json:
        facts = {
            "encoder_id": encoder.encoder_id,
            "preprocess_hash": encoder.preprocess_hash,
            "train_studies": len(collection.train),
            "val_studies": len(collection.val),
            "results": [asdict(value) for value in values],
        }
        chosen.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
