"""Localises findings with the encoder's finding maps. Experimental."""

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

CHEXPERT_LABELS = {
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
"""CheXpert label by finding map; other findings that radiologists drew have none."""

POINTING_FILE = "pointing.json"
"""In the encoder's folder: a `MapMeasure` by finding (`python -m experiments.pointing`)."""

_PHRASES = {
    "Effusion": "pleural effusion",
    "Infiltrate": "infiltrates",
    "Lung Opacity": "airspace opacity",
    "Mass": "lung mass",
    "Nodule": "lung nodule",
}
"""How reports name a finding, where that differs from its map's name."""

_OUTLINE_GRID = 96

_COLUMNS = {Side.RIGHT: (0.0, 0.5), Side.LEFT: (0.5, 1.0), Side.BILATERAL: (0.0, 1.0)}
"""Where a side of the patient is on a frontal image, as fractions of its width."""

_OVERLAY_PIXELS = 768
_COLOURS = ("#ffb000", "#4fc3f7", "#ff6e6e", "#8be08b")


class MapEncoder(FeatureEncoder, Protocol):
    """An encoder with finding maps."""

    @property
    def findings(self) -> tuple[str, ...]:
        """Findings in the order of the maps; empty for an encoder without maps."""


@dataclass(frozen=True, slots=True)
class MapMeasure:
    """What was measured of one finding map on held-back images.

    Attributes:
        hits: percentage of images with the map's peak in a radiologist's box.
        images: number of images.
        slope, shift: calibrate the map's peak log-odds, for findings that the head lacks.
    """

    hits: int
    images: int
    slope: float = 1.0
    shift: float = 0.0


MapMeasures = Mapping[str, MapMeasure]
_UNMEASURED = MapMeasure(0, 0)


def read_map_measures(folder: Path | None) -> MapMeasures:
    """The measures in an encoder's folder; empty if there are none.

    Raises:
        CalibrationError: the file is damaged.
    """
    path = folder / POINTING_FILE if folder else None
    if path is None or not path.is_file():
        return {}
    return read_json(path, dict[str, MapMeasure], hint=RESTORE_HINT)


@dataclass(frozen=True, slots=True)
class LocatedFinding:
    """A finding with its probability and its most likely place.

    Attributes:
        finding: name of the finding map.
        label: its CheXpert label; empty without one.
        probability: of the label by the finding head, or of the finding by its map where the head
            lacks it.
        region: the most likely place, however unlikely the finding is.
    """

    finding: str
    label: str
    probability: float
    region: Region

    def to_json(self) -> dict[str, Any]:
        """As JSON: peak [x, y] and box [left, top, width, height] are fractions of the image."""
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
    """All findings that the encoder has maps of, most probable first.

    Raises:
        EncoderUnavailableError: the encoder has no maps.
    """
    if not encoder.findings:
        raise EncoderUnavailableError(
            "this encoder has no finding maps; use the shipped one, or train one with [labelled]"
        )
    outputs = encoder.outputs(image)
    predicted = head.predict(outputs.vectors[0]).probabilities if head else {}
    located = []
    for name, log_odds in zip(encoder.findings, outputs.maps[0], strict=True):
        label = CHEXPERT_LABELS.get(name, "")
        by_map = _map_probability(log_odds, measures.get(name, _UNMEASURED))
        probability = predicted.get(label, by_map)
        located.append(LocatedFinding(name, label, probability, locate(log_odds)))
    return sorted(located, key=lambda finding: -finding.probability)


def _map_probability(log_odds: NDArray[np.float32], measure: MapMeasure) -> float:
    return float(1 / (1 + np.exp(-(measure.slope * float(log_odds.max()) + measure.shift))))


@dataclass(frozen=True, slots=True)
class FindingOutline:
    """Contour of where the frontal image would show a stated finding.

    Attributes:
        finding: name of the finding map.
        grid: number of parts that the image's sides are divided into, the unit of the edges.
        edges: horizontal and vertical edges of the contour, (x, y, x, y) each.
        measure: of the finding map; None if it was not measured.
    """

    finding: str
    grid: int
    edges: tuple[tuple[int, int, int, int], ...]
    measure: MapMeasure | None


def outline_findings(
    maps: Mapping[str, NDArray[np.float32]],
    stated: Collection[str],
    measures: MapMeasures,
    *,
    side: Side = Side.BILATERAL,
) -> tuple[FindingOutline, ...]:
    """One outline per stated finding with a map; of several maps, the one with the highest peak.

    Args:
        maps: log-odds float32 [h, w] by finding, of a frontal image.
        stated: CheXpert labels and ids of the lexicon.
        measures: of these maps.
        side: of the patient on which the findings are stated; a patient's left is on the right.
    """
    columns = _COLUMNS[side]
    peaks = {finding: _crop_columns(log_odds, columns).max() for finding, log_odds in maps.items()}
    chosen: dict[str, str] = {}
    for finding in maps:
        label = CHEXPERT_LABELS.get(finding, finding.lower())
        other = chosen.get(label)
        if label in stated and (other is None or peaks[finding] > peaks[other]):
            chosen[label] = finding
    return tuple(
        FindingOutline(
            finding,
            _OUTLINE_GRID,
            contour_edges(maps[finding], side=_OUTLINE_GRID, columns=columns),
            measures.get(finding),
        )
        for finding in chosen.values()
    )


def _crop_columns(
    log_odds: NDArray[np.float32], columns: tuple[float, float]
) -> NDArray[np.float32]:
    """The part of a map [h, w] between two fractions of its width."""
    first, last = (round(fraction * log_odds.shape[1]) for fraction in columns)
    return log_odds[:, first:last]


def finding_in_region(maps: Mapping[str, NDArray[np.float32]], heat: NDArray[np.float32]) -> str:
    """The finding that is likely in a region and not much likelier elsewhere on the image.

    Args:
        maps: log-odds float32 [h, w] by finding; at least one.
        heat: heatmap of the region, float32 [H, W] over the whole image.
    """

    def score(finding: str) -> float:
        log_odds = maps[finding]
        rows, columns = (
            np.linspace(0, side, cells + 1).astype(int)[:-1]
            for side, cells in zip(heat.shape, log_odds.shape, strict=True)
        )
        cell_heat = np.maximum.reduceat(np.maximum.reduceat(heat, rows, 0), columns, 1)
        peak_inside = log_odds[cell_heat >= REGION_THRESHOLD * cell_heat.max()].max()
        return float(2 * peak_inside - log_odds.max())

    return max(maps, key=score)


def opposite_sentences(finding: str) -> tuple[str, str]:
    """A sentence that states a finding, and one that denies it."""
    phrase = _PHRASES.get(finding, finding.lower())
    return f"{phrase.capitalize()}.", f"No {phrase}."


def draw_overlay(image: CxrImage, findings: Sequence[LocatedFinding]) -> Image.Image:
    """The image with boxes and peaks of the four most probable findings, and a legend."""
    height, width = image.pixels.shape
    scale = _OVERLAY_PIXELS / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = Image.fromarray((image.pixels.clip(0, 1) * 255).astype(np.uint8)).resize(size)
    canvas = Image.new("RGB", (size[0], size[1] + 16 * (len(_COLOURS) + 2)))
    canvas.paste(grey.convert("RGB"))
    pen = ImageDraw.Draw(canvas)
    for row, (finding, colour) in enumerate(zip(findings, _COLOURS, strict=False)):
        left, top, box_width, box_height = np.multiply(finding.region.box, (*size, *size))
        x, y = np.multiply(finding.region.peak, size)
        pen.rectangle((left, top, left + box_width, top + box_height), outline=colour, width=2)
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), outline=colour, width=2)
        text = f"{finding.finding}: {finding.probability:.0%}"
        pen.text((6, size[1] + 4 + 16 * row), text, fill=colour)
    pen.text((6, size[1] + 4 + 16 * len(_COLOURS)), f"Experimental. {NOTICE}.", fill="white")
    return canvas
