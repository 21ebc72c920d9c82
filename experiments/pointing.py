"""Does a finding's map point at what radiologists drew? The table of an encoder's card.

Images of NIH patients whom no training saw. Beside the map's peak: the place that most training
boxes of the finding cover, the peaks of other patients' maps, and chance, the area of the boxes.

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

from encoders.annotations import Outline, bounding_box
from encoders.eclip.encoder import EclipEncoder, load_encoder
from encoders.eclip.finding_maps import Region, locate
from encoders.images.image_io import read_image
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

_CELLS = 100

Box = tuple[float, float, float, float]
"""Left, top, width, height as fractions of the image."""

Point = tuple[float, float]
"""From the left and from the top."""


class Pointing(NamedTuple):
    """How one finding was found: a row an image.

    ``scores`` float64 [N, 5] are of `COLUMNS`, NaN where no other patient has the finding;
    ``patients`` are those of the images.
    """

    scores: NDArray[np.float64]
    patients: NDArray[np.str_]


def measure(
    encoder: EclipEncoder, examples: Sequence[LabelledExample], *, least: int
) -> dict[str, Pointing]:
    """Findings that are drawn on at least so many held-back images, the most frequent first."""
    drawn = {name: _with(examples, name, Split.VAL) for name in encoder.findings}
    images = {each.image_id: each for held in drawn.values() for each in held}
    regions: dict[str, list[Region]] = {}
    for name, image in track(images.items(), description="locating"):
        maps = encoder.outputs(read_image(image.path)).maps[0]
        regions[name] = [locate(each) for each in maps]
    found = {}
    for row, finding in enumerate(encoder.findings):
        held = drawn[finding]
        if len(held) < least:
            continue
        training = _with(examples, finding, Split.TRAIN)
        covered = [_covered(_boxes(each, finding)) for each in training]
        usual = _place(np.sum(covered, axis=0))
        places = [regions[each.image_id][row] for each in held]
        patients = np.array([each.patient_id for each in held])
        peaks = np.array([place.peak for place in places])
        scores = [
            _scores(_boxes(each, finding), place, usual, peaks[patients != each.patient_id])
            for each, place in zip(held, places, strict=True)
        ]
        found[finding] = Pointing(np.array(scores), patients)
    return dict(sorted(found.items(), key=lambda item: -len(item[1].scores)))


def resampled(
    found: Mapping[str, Pointing], *, samples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Means of resampled patients, float64 [samples, 5]; one draw of patients for all findings."""
    scores = np.concatenate([rows.scores for rows in found.values()])
    patients = np.concatenate([rows.patients for rows in found.values()])
    finding = np.repeat(np.arange(len(found)), [len(rows.scores) for rows in found.values()])
    statistics = [
        mean_statistic(
            {
                name: (Direction.HIGHER, np.where(finding == at, column, np.nan))
                for name, column in zip(COLUMNS, scores.T, strict=True)
            }
        )
        for at in range(len(found))
    ]
    drawn = bootstrap(statistics, patients.tolist(), samples=samples, seed=seed)
    return dict(zip(found, np.split(drawn, len(found), axis=1), strict=True))


def _with(examples: Sequence[LabelledExample], finding: str, split: Split) -> list[LabelledExample]:
    return [each for each in examples if each.split is split and each.outlines.get(finding)]


def _boxes(example: LabelledExample, finding: str) -> list[Box]:
    outlines: Sequence[Outline] = example.outlines[finding]
    return [bounding_box(outline) for outline in outlines]


def _covered(boxes: Sequence[Box]) -> NDArray[np.bool_]:
    """Which cells of a grid over the image lie in a box: bool [cells, cells]."""
    grid = (np.arange(_CELLS) + 0.5) / _CELLS
    covered = np.zeros((_CELLS, _CELLS), bool)
    for left, top, width, height in boxes:
        rows = (grid >= top) & (grid <= top + height)
        covered |= rows[:, None] & (grid >= left) & (grid <= left + width)
    return covered


def _place(counts: NDArray[np.int_]) -> Point:
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    return (float(column) + 0.5) / _CELLS, (float(row) + 0.5) / _CELLS


def _scores(
    boxes: Sequence[Box], own: Region, usual: Point, others: NDArray[np.float64]
) -> tuple[float, ...]:
    """The row of one image; ``others`` [P, 2] are the peaks of other patients' maps."""
    inside = [_within(boxes, point) for point in (own.peak, usual, *others)]
    other = float(np.mean(inside[2:])) if len(others) else np.nan
    area = float(_covered(boxes).mean())
    return (*inside[:2], other, area, max(_overlap(box, own.box) for box in boxes))


def _within(boxes: Sequence[Box], point: Point) -> float:
    x, y = point
    return float(any(left <= x <= left + w and top <= y <= top + h for left, top, w, h in boxes))


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(across, 0) * max(down, 0)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def _table(found: Mapping[str, Pointing], *, samples: int, seed: int) -> str:
    drawn = resampled(found, samples=samples, seed=seed)
    means = {finding: rows.scores.mean(0) for finding, rows in found.items()}
    lines = [
        [finding, str(len(rows.scores)), *_cells(means[finding], drawn[finding])]
        for finding, rows in found.items()
    ]
    if found.keys() >= set(SIX):
        mean, of_six = (np.mean([each[name] for name in SIX], axis=0) for each in (means, drawn))
        lines.append(["mean of six", "", *_cells(mean, of_six)])
    return markdown_table(["finding", "n", *COLUMNS], lines)


def _cells(mean: NDArray[np.float64], drawn: NDArray[np.float64]) -> list[str]:
    low, high = intervals(drawn)[0]
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
    asked = parser.parse_args()
    folder = eclip_folder(asked.encoder)
    if folder is None:
        parser.error(f"{asked.encoder} is no model folder; only eCLIP models have finding maps")
    _, _, examples = read_nih_expert(NihExpert(path=asked.data))
    found = measure(load_encoder(folder), examples, least=asked.least)
    if not found:
        parser.error(f"no finding is drawn on {asked.least} held-back images: lower --least")
    sys.stdout.write(_table(found, samples=asked.samples, seed=asked.seed) + "\n")
    if asked.json:
        known = json.loads(asked.json.read_text("utf-8")) if asked.json.exists() else {}
        for name, rows in found.items():
            hits = round(100 * float(rows.scores[:, 0].mean()))
            known[name] = {**known.get(name, {}), "hits": hits, "images": len(rows.scores)}
        asked.json.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
