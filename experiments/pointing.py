"""Does a finding's map point at what radiologists drew? The table of an encoder's card.

Images of NIH patients whom no training saw. Beside the map's peak: the place that most training
boxes of the finding cover, the peak of another image's map, and chance, the area of the boxes.

    python -m experiments.pointing --data DATA/nih_expert [--encoder eclip] [--json OUT.json]
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from encoders.annotations import Outline, bounding_box
from encoders.eclip.encoder import EclipEncoder, load_encoder
from encoders.eclip.finding_maps import Region, locate
from encoders.images.image_io import read_image
from encoders.registry import DEFAULT, folder_of
from encoders.training.dataset import LabelledExample, Split
from encoders.training.sources.nih_expert import read_nih_expert
from encoders.training.sources.settings import NihExpert
from eval.metrics.base import Direction
from eval.stats import bootstrap, intervals, mean_figure

SIX = ("Consolidation", "Effusion", "Atelectasis", "Cardiomegaly", "Pneumothorax", "Nodule")
"""Findings of the mean in the card."""

COLUMNS = ("peak in a box", "usual place", "other map", "chance", "IoU")

_CELLS = 100

Box = tuple[float, float, float, float]
"""Left, top, width, height as fractions of the image."""


class Pointing(NamedTuple):
    """How one finding was found: a row an image.

    ``scores`` float64 [N, 5] are of `COLUMNS`; ``patients`` are those of the images.
    """

    scores: NDArray[np.float64]
    patients: NDArray[np.str_]


def measure(
    encoder: EclipEncoder, examples: Sequence[LabelledExample], *, least: int, seed: int
) -> dict[str, Pointing]:
    """Findings that are drawn on at least so many held-back images, the most frequent first."""
    drawn = {name: _with(examples, name, Split.VAL) for name in encoder.findings}
    images = {each.image_id: each for held in drawn.values() for each in held}
    regions: dict[str, list[Region]] = {}
    for name, image in track(images.items(), description="locating"):
        maps = encoder.outputs(read_image(image.image)).maps[0]
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
        others = np.roll(np.random.default_rng(seed).permutation(len(held)), 1)
        scores = [
            _scores(_boxes(each, finding), places[at], usual, places[others[at]])
            for at, each in enumerate(held)
        ]
        found[finding] = Pointing(np.array(scores), np.array([each.patient_id for each in held]))
    return dict(sorted(found.items(), key=lambda item: -len(item[1].scores)))


def resampled(found: Pointing, *, samples: int, seed: int) -> NDArray[np.float64]:
    """Means of resampled patients, float64 [samples, 5]."""
    columns = {
        name: (Direction.HIGHER, scores)
        for name, scores in zip(COLUMNS, found.scores.T, strict=True)
    }
    patients = found.patients.tolist()
    return bootstrap([mean_figure(columns)], patients, samples=samples, seed=seed)


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


def _place(counts: NDArray[np.int_]) -> tuple[float, float]:
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    return (float(column) + 0.5) / _CELLS, (float(row) + 0.5) / _CELLS


def _scores(
    boxes: Sequence[Box], own: Region, usual: tuple[float, float], other: Region
) -> tuple[float, ...]:
    inside = [_within(boxes, point) for point in (own.peak, usual, other.peak)]
    area = float(_covered(boxes).mean())
    return (*inside, area, max(_overlap(box, own.box) for box in boxes))


def _within(boxes: Sequence[Box], point: tuple[float, float]) -> float:
    x, y = point
    return float(any(left <= x <= left + w and top <= y <= top + h for left, top, w, h in boxes))


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(across, 0) * max(down, 0)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def _table(found: dict[str, Pointing], *, samples: int, seed: int) -> str:
    lines = [f"| finding | n | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 2) + "|"]
    means = []
    for finding, rows in found.items():
        drawn = resampled(rows, samples=samples, seed=seed)
        if finding in SIX:
            means.append((rows.scores.mean(0), drawn))
        lines.append(_row(finding, str(len(rows.scores)), rows.scores.mean(0), drawn))
    if len(means) == len(SIX):
        mean, drawn = (np.mean(parts, axis=0) for parts in zip(*means, strict=True))
        lines.append(_row("mean of six", "", mean, drawn))
    return "\n".join(lines)


def _row(name: str, n: str, mean: NDArray[np.float64], drawn: NDArray[np.float64]) -> str:
    low, high = intervals(drawn)[0]
    rest = " | ".join(f"{value:.2f}" for value in mean[1:])
    return f"| {name} | {n} | {mean[0]:.3f} [{low:.3f}, {high:.3f}] | {rest} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with readings.jsonl")
    parser.add_argument("--encoder", default=DEFAULT, help="as encoders.registry names it")
    parser.add_argument(
        "--json", type=Path, help="also write hits and images into a model folder's pointing.json"
    )
    parser.add_argument("--least", type=int, default=10, help="held-back images of a finding")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = folder_of(asked.encoder)
    if folder is None:
        parser.error(f"{asked.encoder} is no model folder; only eCLIP models have finding maps")
    _, _, examples = read_nih_expert(NihExpert(path=asked.data))
    found = measure(load_encoder(folder), examples, least=asked.least, seed=asked.seed)
    sys.stdout.write(_table(found, samples=asked.samples, seed=asked.seed) + "\n")
    if asked.json:
        known = json.loads(asked.json.read_text("utf-8")) if asked.json.exists() else {}
        for name, rows in found.items():
            hits = round(100 * float(rows.scores[:, 0].mean()))
            known[name] = {**known.get(name, {}), "hits": hits, "images": len(rows.scores)}
        asked.json.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
