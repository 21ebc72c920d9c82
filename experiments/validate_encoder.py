"""Every number of the model card, from one command.

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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageTextEncoder
from encoders.eclip import load_encoder
from encoders.images.image_io import read_image
from encoders.training import retrieval_metrics
from encoders.training.dataset import Collection, Study, clean, frequent, read_openi
from encoders.training.retrieval_metrics import Interval, Votes, bootstrap, nearest, own_rank, vote

LEAST_LABEL_COUNT = 20
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
"""Findings with an AUC of their own in the card."""

NORMAL = "normal"
"""Not a finding, but its share among the neighbours is worth an AUC."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A collection as an encoder sees it, unit rows float32 [studies, D]."""

    val_images: Vectors
    val_all_views: Vectors
    """Every image of the study, frontal and lateral, averaged."""
    val_reports: Vectors
    train_images: Vectors
    """NaN where a study has no frontal image."""
    train_reports: Vectors


def embed(encoder: ImageTextEncoder, collection: Collection) -> Embedded:
    """Embed what is asked with and what is found."""

    def mean_vector(images: Sequence[Path]) -> Vectors:
        if not images:
            return np.full(encoder.dim, np.nan, dtype=np.float32)
        mean = encoder.embed_images([read_image(image) for image in images]).mean(0)
        return np.asarray(mean / np.linalg.norm(mean))

    val, train = collection.val, collection.train
    return Embedded(
        val_images=np.stack([mean_vector(study.frontals[:1]) for study in val]),
        val_all_views=np.stack([mean_vector(study.frontals + study.laterals) for study in val]),
        val_reports=encoder.embed_texts([study.text for study in val]),
        train_images=np.stack([mean_vector(study.frontals[:1]) for study in train]),
        train_reports=encoder.embed_texts([study.text for study in train]),
    )


def retrievers(embedded: Embedded, collection: Collection) -> dict[str, NDArray[np.intp]]:
    """For each way to retrieve: rows of the training studies, one line a validation study."""
    count = retrieval_metrics.NEIGHBOURS
    asked, kept = len(collection.val), len(collection.train)
    texts = [study.text for study in collection.train]
    usual = texts.index(Counter(texts).most_common(1)[0][0])
    image_similarity = np.nan_to_num(embedded.val_images @ embedded.train_images.T, nan=-np.inf)
    return {
        "image to report": nearest(embedded.val_images @ embedded.train_reports.T, count),
        "all views to report": nearest(embedded.val_all_views @ embedded.train_reports.T, count),
        "own report to report (ceiling)": nearest(
            embedded.val_reports @ embedded.train_reports.T, count
        ),
        "image to image": nearest(image_similarity, count),
        "most common report": np.full((asked, count), usual),
        "random reports": np.random.default_rng(0).integers(kept, size=(asked, count)),
    }


def measure(embedded: Embedded, collection: Collection) -> dict[str, dict[str, Interval]]:
    """All measures of all retrievers, with intervals over the validation studies."""
    names = frequent((study.labels for study in collection.train), least=LEAST_LABEL_COUNT)
    said, truth = (label_table(studies, names) for studies in (collection.train, collection.val))
    results = {
        system: agreement_of(rows, said=said, truth=truth, names=names)
        for system, rows in retrievers(embedded, collection).items()
    }
    texts = [study.text for study in collection.val]
    interval = partial(bootstrap, studies=len(texts))
    for system, images in (
        ("image to report", embedded.val_images),
        ("all views to report", embedded.val_all_views),
    ):
        ranks = own_rank(images @ embedded.val_reports.T, texts)
        for k in (1, 5, 10):
            results[system][f"R@{k}"] = interval(partial(_found_within, ranks=ranks, k=k))
        results[system]["median rank"] = interval(partial(_median, values=ranks))
    return results


def agreement_of(
    rows: NDArray[np.intp],
    *,
    said: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    names: Sequence[str],
) -> dict[str, Interval]:
    """What retrieved reports say against what the images' own reports say.

    Args:
        rows: [N, K], rows of ``said``, the retrieved reports.
        said: [reports, L], labels of the reports.
        truth: [N, L], labels of the images' own reports.
        names: the L labels.
    """
    interval = partial(bootstrap, studies=len(truth))
    abnormal = [number for number, name in enumerate(names) if name != NORMAL]
    every = Votes(vote(rows, said), truth)
    findings = Votes(every.votes[:, abnormal], truth[:, abnormal])
    overlaps = retrieval_metrics.overlap(rows, said, truth)
    values = {
        "label overlap": interval(partial(_mean, values=overlaps)),
        "finding found": interval(findings.found),
        "mention right": interval(findings.right),
        "F1 (2 of 5 say so)": interval(partial(findings.micro_f1, least=0.4)),
        "macro AUC": interval(findings.macro_auc),
    }
    for name in (name for name in SHOWN if name in names):
        number = names.index(name)
        positive = int(truth[:, number].sum())
        values[f"AUC {name} (n={positive})"] = interval(partial(every.auc, finding=number))
    return values


def label_table(studies: Sequence[Study], names: Sequence[str]) -> NDArray[np.bool_]:
    """Table bool [S, L], True where a study has a label."""
    rows = [[name in study.labels for name in names] for study in studies]
    return np.asarray(rows, dtype=bool).reshape(len(studies), len(names))


def _mean(rows: NDArray[np.intp], *, values: NDArray[np.float64]) -> float:
    return float(values[rows].mean())


def _found_within(rows: NDArray[np.intp], *, ranks: NDArray[np.int64], k: int) -> float:
    return float((ranks[rows] <= k).mean())


def _median(rows: NDArray[np.intp], *, values: NDArray[np.int64]) -> float:
    return float(np.median(values[rows]))


def render(results: dict[str, dict[str, Interval]]) -> str:
    """The card's table: a line a measure, a column a retriever."""
    measures = list(dict.fromkeys(name for values in results.values() for name in values))
    turned = {
        name: {system: values[name] for system, values in results.items() if name in values}
        for name in measures
    }
    return retrieval_metrics.table(turned)


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
    results = measure(embed(encoder, collection), collection)
    print(f"{encoder.encoder_id}, {len(collection.val)} validation studies")  # noqa: T201
    print(render(results))  # noqa: T201
    if chosen.json:
        facts: dict[str, Any] = {
            "encoder_id": encoder.encoder_id,
            "preprocess_hash": encoder.preprocess_hash,
            "train_studies": len(collection.train),
            "val_studies": len(collection.val),
            "results": {
                system: {name: asdict(value) for name, value in values.items()}
                for system, values in results.items()
            },
        }
        chosen.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
