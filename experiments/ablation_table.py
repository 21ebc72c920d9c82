"""The table of an ablation: measures of each arm's models, and statistics over seeds.

The tasks of `eval` measure a model on the validation studies: the first frontal image of each, its
report, the prompts of each class.

The unit of analysis is the seed: t intervals over seeds, and a two-sided t test against the
baseline paired by seed, with Holm's correction over all arms and measures. They hold for these
validation studies, not for new ones. A permutation test over five seeds cannot go below p = 0.06,
hence the t test. Two seeds are not tested: recall comes in steps, so two equal differences are
common, and a t test would call them certain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from encoders.base import CxrImage
from encoders.eclip.encoder import load_encoder
from encoders.training.config import TrainSettings
from encoders.training.dataset import Dataset, TrainingStudy
from encoders.training.tensors import load_images
from eval.datasets import (
    DatasetImage,
    DatasetLayout,
    ImageDataset,
    classes_of,
    map_labels,
    prompts,
)
from eval.results import Result
from eval.stats import holm
from eval.tables import markdown_table
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
        f"probe AUC, {share}": ("linear-probe", f"{share} of the training patients", "macro AUROC")
        for share in ("1%", "10%", "100%")
    },
    "alignment": ("embedding", "all", "alignment"),
    "uniformity": ("embedding", "all", "uniformity (image)"),
    "modality gap": ("embedding", "all", "modality gap"),
}
"""Rows of the table: task of `eval`, subset, measure."""

LOWER_IS_BETTER = frozenset({"alignment", "uniformity", "modality gap"})

_SAMPLES = 2
"""Bootstrap resamples of studies, not shown in this table."""

MIN_TESTED_SEEDS = 3
"""Seeds that an arm must share with the baseline to be tested."""

NAN = float("nan")


class Benchmark:
    """Validation images, reports and labels, and training ones for the linear probe.

    Args:
        dataset: of all arms.
        settings: of any arm; sets the size of cached images.
        cache: folder of decoded images.
    """

    def __init__(self, dataset: Dataset, *, settings: TrainSettings, cache: Path) -> None:
        val = [study for study in dataset.val if study.frontals]
        train = probe_studies(dataset)
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
        """All measures of a model; its vectors are saved beside its folder."""
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
        scaled = (image.astype(np.float32) / 255 for image in self._images)
        images = encoder.embed_images([CxrImage(pixels, source_sha256="") for pixels in scaled])
        text = np.full_like(images, np.nan)
        text[: len(self._texts)] = encoder.embed_texts(self._texts)
        sentences = [prompt.text for prompt in prompts(self._data.classes)]
        vectors = make_vectors(
            self._data,
            encoder_id=encoder.encoder_id,
            image=images,
            text=text,
            prompt=encoder.embed_texts(sentences),
        )
        save_vectors(path, vectors)


def probe_studies(dataset: Dataset) -> list[TrainingStudy]:
    """Training studies for the linear probe, whose missing labels mean absent findings."""
    return [
        study
        for study in dataset.train
        if study.frontals and study.labels and study.labels_complete
    ]


def _labelled(study: TrainingStudy, *, split: str) -> DatasetImage:
    """A study for `eval`, with Open-I classes from its Open-I or CheXpert labels."""
    open_i_labels = study.labels & frozenset(classes_of(DatasetLayout.OPEN_I))
    return DatasetImage(
        image_id=study.study_id,
        patient_id=study.patient_id,
        image=str(study.frontals[0]),
        labels=open_i_labels | map_labels(DatasetLayout.OPEN_I, study.labels),
        text=study.text,
        split=split,
    )


def _value(result: Result, *, subset: str, measure: str) -> float:
    found = result.number(system=result.name, subset=subset, measure=measure)
    return float("nan") if found is None or found.value is None else found.value


@dataclass(frozen=True, slots=True)
class Cell:
    """One measure of one arm.

    Attributes:
        mean: over n seeds.
        half: half the width of its interval; NaN for one seed.
        difference, difference_half: the same of the difference from the baseline, over shared
            seeds; NaN for the baseline and for fewer than two.
        p, p_holm: before and after correction; NaN also for fewer than `MIN_TESTED_SEEDS`, and
            where all differences are equal.
    """

    mean: float
    half: float
    n: int
    difference: float = NAN
    difference_half: float = NAN
    p: float = NAN
    p_holm: float = NAN


Table = dict[str, dict[str, Cell]]
"""Cells by arm and measure."""


def summarise(rows: Sequence[Mapping[str, str]], *, baseline: str) -> Table:
    """Cells by arm and measure, from the rows of finished runs."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        for measure in MEASURES:
            seeds = values.setdefault(row["arm"], {}).setdefault(measure, {})
            seeds[int(row["seed"])] = float(row[measure])
    base = values.get(baseline, {})
    cells = {
        arm: {
            measure: _cell(seeds, {} if arm == baseline else base.get(measure, {}))
            for measure, seeds in by_measure.items()
        }
        for arm, by_measure in values.items()
    }
    adjusted = iter(holm([cell.p for row in cells.values() for cell in row.values()]))
    return {
        arm: {measure: replace(cell, p_holm=next(adjusted)) for measure, cell in row.items()}
        for arm, row in cells.items()
    }


def _cell(seeds: Mapping[int, float], base: Mapping[int, float]) -> Cell:
    values = np.array(list(seeds.values()))
    cell = Cell(float(values.mean()), _half_width(values), len(values))
    shared = sorted(seeds.keys() & base.keys())
    differences = np.array([seeds[seed] - base[seed] for seed in shared])
    if len(differences) < 2:
        return cell
    testable = len(differences) >= MIN_TESTED_SEEDS and np.ptp(differences) > 0
    return replace(
        cell,
        difference=float(differences.mean()),
        difference_half=_half_width(differences),
        p=float(stats.ttest_1samp(differences, 0).pvalue) if testable else NAN,
    )


def _half_width(values: NDArray[np.float64]) -> float:
    if len(values) < 2:
        return NAN
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def as_markdown(cells: Table, *, baseline: str) -> str:
    """A table of means with intervals, and one of differences with p values."""
    others = [arm for arm in cells if arm != baseline]
    head = [f"{arm} (n={next(iter(row.values())).n})" for arm, row in cells.items()]
    means = [
        [f"{measure} ({'lower' if measure in LOWER_IS_BETTER else 'higher'})"]
        + [f"{row[measure].mean:.3f} ± {row[measure].half:.3f}" for row in cells.values()]
        for measure in MEASURES
    ]
    differences = [
        [measure, *(_difference(cells[arm][measure]) for arm in others)] for measure in MEASURES
    ]
    title = f"Difference to {baseline}, paired by seed; p is Holm's (before Holm)"
    tables = [
        markdown_table(["measure", *columns], rows)
        for columns, rows in ((head, means), (others, differences))
    ]
    return f"\n\n{title}\n\n".join(tables) + "\n"


def _difference(cell: Cell) -> str:
    if np.isnan(cell.difference):
        return "one seed"
    tested = "" if np.isnan(cell.p) else f", p {cell.p_holm:.2f} ({cell.p:.3f})"
    return f"{cell.difference:+.3f} ± {cell.difference_half:.3f}{tested}"
