"""Localisation of finding maps against radiologists' boxes: the table of an encoder's card.

Images are of NIH patients held back from training. Beside the map's peak: the place that training
boxes of the finding cover most often, the peaks of other patients' maps, and chance, the share of
the image that the boxes cover.

    python -m experiments.pointing --data DATA/nih_expert [--encoder eclip] [--json OUT.json]
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from encoders.annotations import bounding_box
from encoders.eclip.encoder import EclipEncoder, load_encoder
from encoders.eclip.finding_maps import Region, locate
from encoders.image_io import read_image
from encoders.registry import DEFAULT_ENCODER, eclip_folder
from encoders.training.dataset import LabelledExample, Split
from encoders.training.sources.nih_expert import read_nih_expert
from encoders.training.sources.settings import NihExpert
from eval.metrics.base import Direction
from eval.stats import bootstrap, intervals, mean_statistic
from eval.tables import markdown_table

SIX = ("Consolidation", "Effusion", "Atelectasis", "Cardiomegaly", "Pneumothorax", "Nodule")
"""Findings of the mean in the card."""

COLUMNS = ("peak in a box", "usual place", "other map", "chance", "IoU")

_GRID = 100

Box = tuple[float, float, float, float]
"""Left, top, width, height as fractions of the image."""

Point = tuple[float, float]
"""x and y as fractions of the image."""


class Pointing(NamedTuple):
    """Scores of one finding, a row per image.

    ``scores`` float64 [N, 5] are of `COLUMNS`, NaN where no other patient has the finding;
    ``patients`` are those of the images.
    """

    scores: NDArray[np.float64]
    patients: NDArray[np.str_]


def measure(
    encoder: EclipEncoder, examples: Sequence[LabelledExample], *, min_images: int
) -> dict[str, Pointing]:
    """Scores by finding drawn on enough held-back images, the most frequent finding first."""
    drawn = {name: _examples_with(examples, name, Split.VAL) for name in encoder.findings}
    images = {example.image_id: example for held_back in drawn.values() for example in held_back}
    regions: dict[str, list[Region]] = {}
    for image_id, example in track(images.items(), description="locating"):
        maps = encoder.outputs(read_image(example.path)).maps[0]
        regions[image_id] = [locate(log_odds) for log_odds in maps]
    pointing = {}
    for index, finding in enumerate(encoder.findings):
        held_back = drawn[finding]
        if len(held_back) < min_images:
            continue
        training = _examples_with(examples, finding, Split.TRAIN)
        coverage = np.sum([_coverage(_boxes(example, finding)) for example in training], axis=0)
        row, column = np.unravel_index(int(coverage.argmax()), coverage.shape)
        usual = (float(column) + 0.5) / _GRID, (float(row) + 0.5) / _GRID
        located = [regions[example.image_id][index] for example in held_back]
        patients = np.array([example.patient_id for example in held_back])
        peaks = np.array([region.peak for region in located])
        scores = [
            _score(_boxes(example, finding), region, usual, peaks[patients != example.patient_id])
            for example, region in zip(held_back, located, strict=True)
        ]
        pointing[finding] = Pointing(np.array(scores), patients)
    return dict(sorted(pointing.items(), key=lambda item: -len(item[1].scores)))


def resample_means(
    pointing: Mapping[str, Pointing], *, samples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Means of bootstrapped patients, float64 [samples, 5]; findings share the resamples."""
    scores = np.concatenate([rows.scores for rows in pointing.values()])
    patients = np.concatenate([rows.patients for rows in pointing.values()])
    finding = np.repeat(np.arange(len(pointing)), [len(rows.scores) for rows in pointing.values()])
    statistics = [
        mean_statistic(
            {
                name: (Direction.HIGHER, np.where(finding == index, column, np.nan))
                for name, column in zip(COLUMNS, scores.T, strict=True)
            }
        )
        for index in range(len(pointing))
    ]
    means = bootstrap(statistics, patients.tolist(), samples=samples, seed=seed)
    return dict(zip(pointing, np.split(means, len(pointing), axis=1), strict=True))


def _examples_with(
    examples: Sequence[LabelledExample], finding: str, split: Split
) -> list[LabelledExample]:
    return [
        example for example in examples if example.split is split and example.outlines.get(finding)
    ]


def _boxes(example: LabelledExample, finding: str) -> list[Box]:
    return [bounding_box(outline) for outline in example.outlines[finding]]


def _coverage(boxes: Sequence[Box]) -> NDArray[np.bool_]:
    """Which cells of a grid over the image have their centre in a box: bool [grid, grid]."""
    centres = (np.arange(_GRID) + 0.5) / _GRID
    covered = np.zeros((_GRID, _GRID), bool)
    for left, top, width, height in boxes:
        rows = (centres >= top) & (centres <= top + height)
        columns = (centres >= left) & (centres <= left + width)
        covered |= rows[:, None] & columns
    return covered


def _score(
    boxes: Sequence[Box], region: Region, usual: Point, other_peaks: NDArray[np.float64]
) -> tuple[float, ...]:
    """`COLUMNS` of one image; ``other_peaks`` [P, 2] are of other patients' maps."""
    hit, usual_hit, *other_hits = (
        _is_in_box(point, boxes) for point in (region.peak, usual, *other_peaks)
    )
    other = float(np.mean(other_hits)) if other_hits else np.nan
    iou = max(_iou(box, region.box) for box in boxes)
    return hit, usual_hit, other, float(_coverage(boxes).mean()), iou


def _is_in_box(point: Point, boxes: Sequence[Box]) -> bool:
    x, y = point
    return any(left <= x <= left + w and top <= y <= top + h for left, top, w, h in boxes)


def _iou(one: Box, other: Box) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    intersection = max(width, 0) * max(height, 0)
    return intersection / (one[2] * one[3] + other[2] * other[3] - intersection)


def _table(pointing: Mapping[str, Pointing], *, samples: int, seed: int) -> str:
    resampled = resample_means(pointing, samples=samples, seed=seed)
    means = {finding: rows.scores.mean(0) for finding, rows in pointing.items()}
    lines = [
        [finding, str(len(rows.scores)), *_cells(means[finding], resampled[finding])]
        for finding, rows in pointing.items()
    ]
    if pointing.keys() >= set(SIX):
        mean, mean_resampled = (
            np.mean([values[name] for name in SIX], axis=0) for values in (means, resampled)
        )
        lines.append(["mean of six", "", *_cells(mean, mean_resampled)])
    return markdown_table(["finding", "n", *COLUMNS], lines)


def _cells(mean: NDArray[np.float64], resampled: NDArray[np.float64]) -> list[str]:
    low, high = intervals(resampled)[0]
    return [f"{mean[0]:.3f} [{low:.3f}, {high:.3f}]", *(f"{value:.2f}" for value in mean[1:])]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with readings.jsonl")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="as encoders.registry names it")
    parser.add_argument(
        "--json", type=Path, help="also write hits and images into a model folder's pointing.json"
    )
    parser.add_argument("--least", type=int, default=10, help="held-back images of a finding")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = eclip_folder(options.encoder)
    if folder is None:
        parser.error(f"{options.encoder} is no model folder; only eCLIP models have finding maps")
    _, _, examples = read_nih_expert(NihExpert(path=options.data))
    pointing = measure(load_encoder(folder), examples, min_images=options.least)
    if not pointing:
        parser.error(f"no finding is drawn on {options.least} held-back images: lower --least")
    sys.stdout.write(_table(pointing, samples=options.samples, seed=options.seed) + "\n")
    if options.json:
        measures = json.loads(options.json.read_text("utf-8")) if options.json.exists() else {}
        for name, rows in pointing.items():
            hits = round(100 * float(rows.scores[:, 0].mean()))
            measures[name] = {**measures.get(name, {}), "hits": hits, "images": len(rows.scores)}
        options.json.write_text(json.dumps(measures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
