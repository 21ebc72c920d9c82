"""Comparison of encoders within and across sites: tasks on vectors, drafts, cost per image.

A source site trains the probe and, if it has a collection, is drafted from; every site is a target
to test on. All encoders see the same images and classes, and their differences are paired.
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
from eval.results import MetricValue, Result, file_info, metric_values, task_card
from eval.sites import EncoderComparison, SiteImages, common_classes, read_site, train_and_test
from eval.stats import LEVEL, Floats, Statistic, summed_statistic, uniform_statistic
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
_DRAFT_MEASURES = ("micro F1-14 (u=1)", "micro F1-5 (u=1)", "ROUGE-L", "false-finding drafts")

Draft = Callable[[str, ImageEncoder, SiteImages, SiteImages], Path]
"""Encoder name, encoder, source site, target site -> predictions.jsonl of the target's images."""


def compare_encoders(
    config: EncoderComparison,
    *,
    load: Callable[[str], ImageEncoder],
    draft: Draft,
    samples: int,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Embed every site with each encoder in turn, draft, and score.

    Raises:
        EvalUsageError: a split is missing, an encoder is named twice, or sites share no class.
        EvalDataError: an image cannot be read.
        EvalLeakError: training and test images share a patient, study or image.
    """
    sites = [read_site(site) for site in config.site]
    classes = common_classes(sites)
    pairs = [(source, target) for source in sites if source.train for target in sites]
    statistics: list[dict[str, list[Statistic]]] = [{} for _ in pairs]
    costs: dict[str, float] = {}
    images = sum(len(site.data.images) for site in sites)
    for name in config.encoders:
        say(f"{name} ")
        encoder = _TimedEncoder(load(name))
        if encoder.encoder_id in costs:
            raise EvalUsageError(f"{config.encoders} name one encoder twice: {encoder.encoder_id}")
        vectors = {
            site.config.name: embed(site.data, paths=site.paths, encoder=encoder, say=say)
            for site in sites
        }
        costs[encoder.encoder_id] = 1000 * encoder.seconds / images
        for (source, target), by_encoder in zip(pairs, statistics, strict=True):
            both = train_and_test(vectors, source, target)
            train, test = (part.with_classes(classes) for part in both)
            by_encoder[encoder.encoder_id] = _vector_statistics(train, test, seed=seed)
            if source.config.collection:
                drafts = draft(name, encoder, source, target)
                by_encoder[encoder.encoder_id] += _draft_statistics(drafts, target, test)
    numbers: list[MetricValue] = []
    for (source, target), by_encoder in zip(pairs, statistics, strict=True):
        suffix = f": {source.config.name} → {target.config.name}" if len(pairs) > 1 else ""
        numbers += metric_values(
            _with_differences(by_encoder, suffix),
            patients=[image.patient_id for image in target.test],
            samples=samples,
            seed=seed,
        )
    first_suffix = numbers[0].system.removeprefix(next(iter(costs)))
    numbers += [
        MetricValue(name + first_suffix, "all", COST, ms, None, None, images, Direction.LOWER.value)
        for name, ms in costs.items()
    ]
    return Result(
        task="encoders",
        name=f"{len(costs)} encoders",
        models={"encoder_id": list(costs)},
        dataset={key: value for site in sites for key, value in _facts(site).items()},
        settings={"level": LEVEL, "samples": samples, "seed": seed},
        cards=[task_card("encoders", [*dict.fromkeys(n.measure for n in numbers)])],
        numbers=numbers,
        notes=[f"classes: {', '.join(classes)}", f"{COST} measured on this machine under load"],
    )


def _facts(site: SiteImages) -> dict[str, object]:
    name = site.config.name
    return {
        f"{name} table": file_info(site.config.table),
        f"{name} training images": len(site.train),
        f"{name} studies": len(site.test),
        f"{name} patients": len({image.patient_id for image in site.test}),
    }


class _TimedEncoder:
    """An encoder that times its image side."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self._encoder = encoder
        self.encoder_id, self.dim = encoder.encoder_id, encoder.dim
        self.preprocess_hash = encoder.preprocess_hash
        self.seconds = 0.0
        if embeds_texts(encoder):
            self.embed_texts = encoder.embed_texts

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        started = time.perf_counter()
        vectors = self._encoder.embed_images(images)
        self.seconds += time.perf_counter() - started
        return vectors


def _vector_statistics(train: Vectors, test: Vectors, *, seed: int) -> list[Statistic]:
    """All measures that the encoder allows: an image-only encoder has the probe alone."""
    classes = range(len(test.classes))
    scores = probe_scores(
        train.image, test.image, train=train, classes=classes, share=1.0, seed=seed
    )
    probe = probe_statistic(scores, test, classes).with_prefix("probe: ", first=1)
    if not len(test.prompt):
        return [probe]
    areas = area_statistic(test, class_scores(test)).with_prefix("zero-shot: ", first=2)
    if not (test.text_ids != "").any():
        return [areas, probe]
    ranks = [
        statistic.with_prefix(f"{search.name}: ")
        for search in searches(test)
        if search.name.endswith(("own report", "own image"))
        for statistic in rank_statistics(*rank(search))
    ]
    image, text = test.image.astype(np.float64), test.text.astype(np.float64)
    return [areas, probe, *ranks, *quality_statistics(image, text)]


def _draft_statistics(path: Path, target: SiteImages, test: Vectors) -> list[Statistic]:
    """Drafts against the labels, and against the reports if the target site has some."""
    drafts = read_predictions(path)
    labelled = test.with_classes([name for name in test.classes if name in LABELS])
    columns = [LABELS.index(name) for name in labelled.classes]
    texts = [drafts[name].text(Scope.REPORT) for name in test.image_ids]
    stated = np.array([label_matrix(text)[0, columns] for text in texts])
    statistics = [_label_agreement(stated, labelled.labels)]
    predicted = [drafts[name].labels for name in test.image_ids]
    if all(labels.keys() >= set(labelled.classes) for labels in predicted):
        scores = np.array([[labels[name] for name in labelled.classes] for labels in predicted])
        areas = area_statistic(labelled, scores)
        statistics.append(areas.with_prefix("finding head: ", first=1))
    if not any(image.text for image in target.test):
        return statistics
    studies = {
        image.image_id: ReferenceStudy(
            study_id=image.image_id, patient_id=image.patient_id, report=image.text
        )
        for image in target.test
    }
    references = References(target.config.table, studies, {})
    study_set = make_study_set(references, Scope.REPORT)
    run = make_run("drafts", path, study_set=study_set, references=references)
    check_leaks(study_set, train=None, run=run)
    metrics, _ = load_metrics(("labels", "rouge", "stated"), Setup(COCO_PTB, study_set.texts))
    for metric in metrics:
        measures = [measure for measure in metric.measures if measure.name in _DRAFT_MEASURES]
        statistic = summed_statistic(measures, metric.score(run.pairs), study_set.patients)
        statistics.append(statistic.with_prefix("drafts: "))
    return statistics


def _label_agreement(stated: NDArray[np.bool_], labels: NDArray[np.bool_]) -> Statistic:
    """Micro F1, precision and recall of what drafts state against the labels, bool [N, L] each."""
    counts = np.stack([(stated & labels).sum(1), stated.sum(1), labels.sum(1)], axis=1)

    def values(weights: Floats) -> Floats:
        hits, predicted, true = (weights @ counts).T
        denominators = np.stack([predicted + true, predicted, true], axis=1)
        return divide(np.stack([2 * hits, hits, hits], axis=1), denominators)

    names = [f"drafts: {name} by the labels" for name in ("micro F1", "precision", "recall")]
    return uniform_statistic(names, Direction.HIGHER, len(stated), values)


def _with_differences(
    statistics: Mapping[str, list[Statistic]], suffix: str
) -> list[tuple[str, str, Statistic]]:
    """Every encoder's statistics, and their differences from the first encoder's."""
    base, *others = statistics
    rows = [(name + suffix, "all", s) for name, found in statistics.items() for s in found]
    return rows + [
        (name + suffix, f"minus {base}", _difference(statistic, base_statistic))
        for name in others
        for statistic in statistics[name]
        for base_statistic in statistics[base]
        if statistic.names == base_statistic.names
    ]


def _difference(statistic: Statistic, base: Statistic) -> Statistic:
    """The difference on the same resampled patients."""
    return replace(
        statistic, values=lambda weights: statistic.values(weights) - base.values(weights)
    )
