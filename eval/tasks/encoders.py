"""Several encoders on one site or several: every task on vectors, drafts, cost per image.

From each site that has training images a probe is learned, and from each that has a collection
drafts are made, for the test images of every site: home beside away. All encoders are measured on
the same images and classes, and their differences are paired.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageEncoder, embeds_texts
from eval.embedding import embed
from eval.errors import EvalUsageError
from eval.metrics.base import Direction, Setup, divide, load_metrics
from eval.metrics.findings import label_matrix
from eval.results import MetricValue, Result, file_facts, numbers_of, task_card
from eval.sites import EncoderComparison, SiteImages, common_classes, read_site, train_and_test
from eval.stats import LEVEL, Floats, Statistic, summed_statistic
from eval.studies import References, ReferenceStudy, Scope, read_predictions
from eval.study_set import check_leaks, make_run, make_study_set
from eval.tasks.embedding import quality_statistics
from eval.tasks.linear_probe import probe_scores, probe_statistic
from eval.tasks.retrieval import rank, rank_statistics, searches
from eval.tasks.zero_shot import area_statistic, class_scores
from eval.text import COCO_PTB
from eval.vectors import Vectors
from rag.report_nlp.labeller import LABELS

COST = "ms per image"
_OF_DRAFTS = ("micro F1-14 (u=1)", "micro F1-5 (u=1)", "ROUGE-L", "false-finding drafts")

Draft = Callable[[str, ImageEncoder, SiteImages, SiteImages], Path]
"""Name of an encoder, the encoder, whose collection, whose test images -> predictions.jsonl."""


def compare_encoders(
    asked: EncoderComparison,
    *,
    load: Callable[[str], ImageEncoder],
    draft: Draft,
    samples: int,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Embed every site with each encoder, one after the other, draft, and score them alike.

    Raises:
        EvalUsageError: a split is missing, an encoder is named twice, or sites share no class.
        EvalDataError: an image cannot be read.
        EvalLeakError: a patient, study or image is where is learned and where is measured.
    """
    sites = [read_site(site) for site in asked.site]
    classes = common_classes(sites)
    pairs = [(home, away) for home in sites if home.train for away in sites]
    found: list[dict[str, list[Statistic]]] = [{} for _ in pairs]
    costs: dict[str, float] = {}
    images = sum(len(each.data.images) for each in sites)
    for name in asked.encoders:
        say(f"{name} ")
        encoder = _Timed(load(name))
        if encoder.encoder_id in costs:
            raise EvalUsageError(f"{asked.encoders} name one encoder twice: {encoder.encoder_id}")
        vectors = {
            each.site.name: embed(each.data, paths=each.paths, encoder=encoder, say=say)
            for each in sites
        }
        costs[encoder.encoder_id] = 1000 * encoder.seconds / images
        for (home, away), statistics in zip(pairs, found, strict=True):
            both = train_and_test(vectors, home, away)
            train, test = (part.with_classes(classes) for part in both)
            measured = _vector_statistics(train, test, seed=seed)
            if home.site.collection:
                measured += _draft_statistics(draft(name, encoder, home, away), away, test)
            statistics[encoder.encoder_id] = measured
    numbers: list[MetricValue] = []
    for (home, away), statistics in zip(pairs, found, strict=True):
        way = f": {home.site.name} → {away.site.name}" if len(pairs) > 1 else ""
        patients = [image.patient_id for image in away.test]
        named = _with_differences(statistics, way)
        numbers += numbers_of(named, patients=patients, samples=samples, seed=seed)
    first_way = numbers[0].system.removeprefix(next(iter(costs)))
    numbers += [
        MetricValue(name + first_way, "all", COST, cost, None, None, images, Direction.LOWER.value)
        for name, cost in costs.items()
    ]
    return Result(
        task="encoders",
        name=f"{len(costs)} encoders",
        models={"encoder_id": list(costs)},
        dataset={key: value for each in sites for key, value in _facts(each).items()},
        settings={"level": LEVEL, "samples": samples, "seed": seed},
        cards=[task_card("encoders", [*dict.fromkeys(n.measure for n in numbers)])],
        numbers=numbers,
        notes=[f"classes: {', '.join(classes)}", f"{COST} on this machine, as it was busy"],
    )


def _facts(each: SiteImages) -> dict[str, object]:
    name, site = each.site.name, each.site
    return {
        f"{name} table": file_facts(site.table),
        f"{name} training images": len(each.train),
        f"{name} studies": len(each.test),
        f"{name} patients": len({image.patient_id for image in each.test}),
    }


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


def _vector_statistics(train: Vectors, test: Vectors, *, seed: int) -> list[Statistic]:
    """What can be measured of an encoder: without texts only the probe."""
    classes = range(len(test.classes))
    scores = list(
        probe_scores(train.image, test.image, train=train, classes=classes, share=1.0, seed=seed)
    )
    statistics = [probe_statistic(scores, test, classes).renamed("probe: ", first=1)]
    if not len(test.prompt):
        return statistics
    areas = area_statistic(test, class_scores(test))
    statistics.insert(0, areas.renamed("zero-shot: ", first=2))
    if not (test.text_ids != "").any():
        return statistics
    for search in searches(test):
        if search.name.endswith(("own report", "own image")):
            statistics += [
                each.renamed(f"{search.name}: ") for each in rank_statistics(*rank(search))
            ]
    image, text = test.image.astype(np.float64), test.text.astype(np.float64)
    return statistics + quality_statistics(image, text)


def _draft_statistics(path: Path, away: SiteImages, test: Vectors) -> list[Statistic]:
    """What drafts say: against the labels everywhere, against the reports where there are some."""
    drafts = read_predictions(path)
    known = test.with_classes([name for name in test.classes if name in LABELS])
    columns = [LABELS.index(name) for name in known.classes]
    texts = [drafts[name].text(Scope.REPORT) for name in test.image_ids]
    said = np.array([label_matrix(text)[0, columns] for text in texts])
    statistics = [_by_labels(said, known.labels)]
    heads = [drafts[name].labels for name in test.image_ids]
    if all(head.keys() >= set(known.classes) for head in heads):
        scores = np.array([[head[name] for name in known.classes] for head in heads])
        statistics.append(area_statistic(known, scores).renamed("finding head: ", first=1))
    if not any(image.text for image in away.test):
        return statistics
    studies = {
        image.image_id: ReferenceStudy(
            study_id=image.image_id, patient_id=image.patient_id, report=image.text
        )
        for image in away.test
    }
    references = References(away.site.table, studies, {}, has_patients=True)
    study_set = make_study_set(references, Scope.REPORT)
    run = make_run("drafts", path, study_set=study_set, references=references)
    check_leaks(study_set, train=None, run=run)
    ready, _ = load_metrics(("labels", "rouge", "stated"), Setup(COCO_PTB, study_set.texts))
    for metric in ready:
        shown = [measure for measure in metric.measures if measure.name in _OF_DRAFTS]
        statistic = summed_statistic(shown, metric.score(run.pairs), study_set.patients)
        statistics.append(statistic.renamed("drafts: "))
    return statistics


def _by_labels(said: NDArray[np.bool_], there: NDArray[np.bool_]) -> Statistic:
    """Micro F1, precision and recall of what drafts state, bool [N, L], against the labels."""
    counts = np.stack([(said & there).sum(1), said.sum(1), there.sum(1)], axis=1)

    def values(weights: Floats) -> Floats:
        hits, stated, true = (weights @ counts).T
        below = np.stack([stated + true, stated, true], axis=1)
        return divide(np.stack([2 * hits, hits, hits], axis=1), below)

    names = tuple(f"drafts: {name} by the labels" for name in ("micro F1", "precision", "recall"))
    return Statistic(names, (Direction.HIGHER,) * 3, (len(said),) * 3, values)


def _with_differences(
    statistics: Mapping[str, list[Statistic]], way: str
) -> list[tuple[str, str, Statistic]]:
    """Every encoder's statistics, and those of the others minus the first one's."""
    base, *others = statistics
    named = [(name + way, "all", each) for name, found in statistics.items() for each in found]
    return named + [
        (name + way, f"minus {base}", _difference(each, first))
        for name in others
        for each in statistics[name]
        for first in statistics[base]
        if each.names == first.names
    ]


def _difference(statistic: Statistic, base: Statistic) -> Statistic:
    """The statistic's values minus the base's, on the same resampled patients."""
    return replace(
        statistic, values=lambda weights: statistic.values(weights) - base.values(weights)
    )
