"""Where on an image each finding is, if it is there at all: experimental.

Knows the encoder's finding maps and the finding head; draws no conclusion about the report.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from encoders.annotations import REGION_THRESHOLD
from encoders.base import CxrImage
from encoders.eclip.finding_maps import Region, contour_edges, locate
from rag.encoder_parts import RESTORE_HINT, read_json
from rag.errors import EncoderUnavailableError
from rag.report_nlp.statements import Side
from rag.schema import NOTICE
from rag.screening.finding_head import FindingPredictor
from rag.screening.out_of_distribution import FeatureEncoder

CHEXPERT_LABEL_OF = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Effusion": "Pleural Effusion",
    "Fracture": "Fracture",
    "Infiltrate": "Lung Opacity",
    "Lung Opacity": "Lung Opacity",
    "Mass": "Lung Lesion",
    "Nodule": "Lung Lesion",
    "Diffuse Nodule": "Lung Lesion",
    "Pleural Thickening": "Pleural Other",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
"""CheXpert's label of a finding; what radiologists boxed beside these has none."""

POINTING = "pointing.json"
"""In an encoder's folder: what was measured of its maps, by finding."""

_PHRASES = {
    "Effusion": "pleural effusion",
    "Infiltrate": "infiltrates",
    "Lung Opacity": "airspace opacity",
    "Mass": "lung mass",
    "Nodule": "lung nodule",
}
"""How reports say it, where that is not the finding's name."""

OUTLINE_SIDE = 96

_COLUMNS = {Side.RIGHT: (0.0, 0.5), Side.LEFT: (0.5, 1.0), Side.BILATERAL: (0.0, 1.0)}
"""Of a frontal image, as fractions of its width, by side of the patient."""

SHOWN = 4
"""Findings drawn on an overlay at most."""

_SIDE = 768
_COLOURS = ("#ffb000", "#4fc3f7", "#ff6e6e", "#8be08b")


class MapEncoder(FeatureEncoder, Protocol):
    """An encoder that shows where it sees findings."""

    @property
    def findings(self) -> tuple[str, ...]:
        """What it has maps of."""


@dataclass(frozen=True, slots=True)
class MapMeasure:
    """What is known of an encoder's map of a finding.

    Attributes:
        hits, images: on so many per cent of the held-back images the map's peak lay in a
            radiologist's box (`python -m experiments.pointing`).
        slope, shift: of the map's highest log-odds, that make a probability where no finding head
            knows the finding: a logistic regression on held-back images.
    """

    hits: int
    images: int
    slope: float = 1.0
    shift: float = 0.0


MapMeasures = Mapping[str, MapMeasure]
_UNMEASURED = MapMeasure(0, 0)


def read_map_measures(folder: Path | None) -> MapMeasures:
    """What was measured of an encoder's maps; nothing where its folder does not say.

    Raises:
        CalibrationError: the file is damaged.
    """
    path = folder / POINTING if folder else None
    if path is None or not path.is_file():
        return {}
    return read_json(path, dict[str, MapMeasure], hint=RESTORE_HINT)


@dataclass(frozen=True, slots=True)
class LocatedFinding:
    """A finding, how likely it is, and where it would be.

    Attributes:
        finding: as radiologists named it who drew boxes.
        label: CheXpert's label that it belongs to; empty where there is none.
        probability: of the label by the finding head; of the finding by its map where the head
            does not know it.
        region: the most likely place; there is one even where the finding is unlikely.
    """

    finding: str
    label: str
    probability: float
    region: Region

    def to_json(self) -> dict[str, Any]:
        """Places are fractions of the image: peak [x, y], box [left, top, width, height]."""
        return {
            "finding": self.finding,
            "label": self.label,
            "probability": round(self.probability, 4),
            "peak": [round(value, 4) for value in self.region.peak],
            "box": [round(value, 4) for value in self.region.box],
        }


def locate_findings(
    encoder: MapEncoder, image: CxrImage, *, head: FindingPredictor | None, measures: MapMeasures
) -> list[LocatedFinding]:
    """Every finding that the encoder has a map of, the most probable first.

    Raises:
        EncoderUnavailableError: the encoder has no maps.
    """
    if not encoder.findings:
        raise EncoderUnavailableError(
            "this encoder has no finding maps; use the shipped one, or train one with [labelled]"
        )
    seen = encoder.outputs(image)
    known = head.predict(seen.vectors[0]).probabilities if head else {}
    found = [
        LocatedFinding(
            name,
            label,
            known.get(label, _by_map(log_odds, measures.get(name, _UNMEASURED))),
            locate(log_odds),
        )
        for name, log_odds in zip(encoder.findings, seen.maps[0], strict=True)
        for label in [CHEXPERT_LABEL_OF.get(name, "")]
    ]
    return sorted(found, key=lambda each: -each.probability)


def _by_map(log_odds: NDArray[np.float32], measured: MapMeasure) -> float:
    return float(1 / (1 + np.exp(-(measured.slope * float(log_odds.max()) + measured.shift))))


@dataclass(frozen=True, slots=True)
class Outline:
    """Where the frontal image would show what a sentence states.

    Attributes:
        finding: as radiologists named it who drew boxes.
        side: how many parts of the image's sides the edges are counted in.
        edges: straight parts of the contour, (x, y, x, y) each.
        measured: how often such a place was right; None where nobody has measured it.
    """

    finding: str
    side: int
    edges: tuple[tuple[int, int, int, int], ...]
    measured: MapMeasure | None


def outline_findings(
    maps: Mapping[str, NDArray[np.float32]],
    stated: Collection[str],
    measures: MapMeasures,
    *,
    side: Side = Side.BILATERAL,
) -> tuple[Outline, ...]:
    """One for each stated finding that there is a map of; of two maps, the surer one.

    Args:
        maps: log-odds by place, float32 [h, w], by finding; of a frontal image.
        stated: CheXpert labels and ids of the lexicon.
        measures: of these maps.
        side: of the patient, where they are stated to be: on a frontal image, left is right.
    """
    columns = _COLUMNS[side]
    highest = {finding: _within(log_odds, columns).max() for finding, log_odds in maps.items()}
    surest: dict[str, str] = {}
    for finding in maps:
        label = CHEXPERT_LABEL_OF.get(finding, finding.lower())
        known = surest.get(label)
        if label in stated and (known is None or highest[finding] > highest[known]):
            surest[label] = finding
    return tuple(
        Outline(finding, OUTLINE_SIDE, edges, measures.get(finding))
        for finding in surest.values()
        for edges in [contour_edges(maps[finding], side=OUTLINE_SIDE, columns=columns)]
    )


def _within(log_odds: NDArray[np.float32], columns: tuple[float, float]) -> NDArray[np.float32]:
    """The part of a map [h, w] between two fractions of its width."""
    first, last = (round(part * log_odds.shape[1]) for part in columns)
    return log_odds[:, first:last]


def finding_in_region(maps: Mapping[str, NDArray[np.float32]], heat: NDArray[np.float32]) -> str:
    """The finding that is likely within a region, and hardly likelier elsewhere on the image.

    Args:
        maps: log-odds by place, float32 [h, w], by finding; at least one.
        heat: of the region, float32 [H, W] over the whole image.
    """

    def score(finding: str) -> float:
        log_odds = maps[finding]
        rows, columns = (
            np.linspace(0, side, cells + 1).astype(int)[:-1]
            for side, cells in zip(heat.shape, log_odds.shape, strict=True)
        )
        warmth = np.maximum.reduceat(np.maximum.reduceat(heat, rows, 0), columns, 1)
        within = log_odds[warmth >= REGION_THRESHOLD * warmth.max()].max()
        return float(2 * within - log_odds.max())

    return max(maps, key=score)


def opposite_sentences(finding: str) -> tuple[str, str]:
    """A finding as a report states it and as it denies it."""
    phrase = _PHRASES.get(finding, finding.lower())
    return f"{phrase.capitalize()}.", f"No {phrase}."


def draw_overlay(image: CxrImage, found: Sequence[LocatedFinding]) -> Image.Image:
    """The image with the boxes and peaks of the most probable findings, and what they are."""
    height, width = image.pixels.shape
    scale = _SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = Image.fromarray((image.pixels.clip(0, 1) * 255).astype(np.uint8)).resize(size)
    canvas = Image.new("RGB", (size[0], size[1] + 16 * (SHOWN + 2)))
    canvas.paste(grey.convert("RGB"))
    pen = ImageDraw.Draw(canvas)
    for row, (each, colour) in enumerate(zip(found[:SHOWN], _COLOURS, strict=False)):
        left, top, across, down = (part * size[at % 2] for at, part in enumerate(each.region.box))
        x, y = (part * side for part, side in zip(each.region.peak, size, strict=True))
        pen.rectangle((left, top, left + across, top + down), outline=colour, width=2)
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), outline=colour, width=2)
        text = f"{each.finding}: {each.probability:.0%}"
        pen.text((6, size[1] + 4 + 16 * row), text, fill=colour)
    pen.text((6, size[1] + 4 + 16 * SHOWN), f"Experimental. {NOTICE}.", fill="white")
    return canvas
