"""Located findings, outlines and `cxr-rag locate`."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from demo.phantom import PhantomFinding, draw_phantom
from encoders.base import CxrImage
from encoders.eclip.encoder import ImageOutput
from encoders.registry import DEFAULT_ENCODER, eclip_folder
from rag.atomic_io import free_path
from rag.cli.main import app
from rag.errors import CalibrationError, EncoderUnavailableError
from rag.localization import (
    CHEXPERT_LABELS,
    MapMeasure,
    draw_overlay,
    finding_in_region,
    locate_findings,
    outline_findings,
    read_map_measures,
)
from rag.report_nlp.labeller import LABELS
from rag.report_nlp.statements import Side
from rag.study import ReaderRegion

MEASURES = {
    "Effusion": MapMeasure(82, 123),
    "Emphysema": MapMeasure(93, 15, slope=0.84, shift=-3.27),
}
KEYS = {"file", "finding", "label", "probability", "peak", "box"}


class MapsOfTwo:
    """Sees an effusion low on the left of the image, and hardly any emphysema."""

    findings = ("Effusion", "Emphysema")

    def outputs(self, image: CxrImage) -> ImageOutput:
        maps = np.full((1, 2, 14, 14), -6.0, np.float32)
        maps[0, 0, 9:12, 2:5] = 3.0
        return ImageOutput(np.zeros((1, 4), np.float32), np.zeros((1, 8), np.float32), maps)


class NoMaps:
    findings = ()

    def outputs(self, image: CxrImage) -> ImageOutput:
        raise AssertionError("nothing to see")


def phantom() -> CxrImage:
    pixels = draw_phantom(size=256, finding=PhantomFinding.LEFT_PLEURAL_EFFUSION)
    return CxrImage(pixels=pixels, source_sha256="drawn")


def test_findings_are_located_most_probable_first() -> None:
    first, second = locate_findings(MapsOfTwo(), phantom(), head=None, measures=MEASURES)
    assert (first.finding, first.label) == ("Effusion", "Pleural Effusion")
    assert (second.finding, second.label) == ("Emphysema", "")
    assert first.probability > 0.9
    assert second.probability < 0.1
    x, y = first.region.peak
    left, top, width, height = first.region.box
    assert left < x < left + width
    assert top < y < top + height
    assert (left + width / 2, top + height / 2) == pytest.approx((3.5 / 14, 10.5 / 14), abs=0.05)


def maps_with(**peaks: tuple[int, int]) -> dict[str, np.ndarray]:
    """A map a finding, sure of one place (row, column) and of nothing else."""
    maps = {name: np.full((14, 14), -6.0, np.float32) for name in peaks}
    for name, place in peaks.items():
        maps[name][place] = 3.0
    return maps


def test_the_outline_is_closed_around_the_peak_and_has_its_measure() -> None:
    (found,) = outline_findings(
        maps_with(Effusion=(10, 3)), {"Pleural Effusion", "pleural_effusion"}, MEASURES
    )
    assert (found.finding, found.measure) == ("Effusion", MEASURES["Effusion"])
    ends = Counter(point for x, y, u, v in found.edges for point in ((x, y), (u, v)))
    assert set(ends.values()) == {2}  # every edge continues in another one
    places = np.array(list(ends)) / found.grid
    assert places.mean(0) == pytest.approx((3.5 / 14, 10.5 / 14), abs=0.02)


def test_the_outline_is_on_the_side_that_the_sentence_names() -> None:
    maps = maps_with(Effusion=(10, 3))
    maps["Effusion"][10, 11] = 2.9  # the patient's left
    both = outline_findings(maps, {"Pleural Effusion"}, MEASURES)
    (left,) = outline_findings(maps, {"Pleural Effusion"}, MEASURES, side=Side.LEFT)
    (right,) = outline_findings(maps, {"Pleural Effusion"}, MEASURES, side=Side.RIGHT)
    assert {*left.edges, *right.edges} == set(both[0].edges)
    assert min(x for x, *_ in left.edges) > left.grid / 2 > max(x for x, *_ in right.edges)


def test_the_outline_of_a_side_is_around_the_peak_of_that_side() -> None:
    log_odds = np.full((14, 14), -6.0, np.float32)
    log_odds[:, 4:10] = -5.0  # the middle of the chest
    log_odds[9:13, 1:4] = -4.2
    log_odds[9:13, 10:13] = 3.0
    maps = {"Effusion": log_odds}
    (right,) = outline_findings(maps, {"Pleural Effusion"}, MEASURES, side=Side.RIGHT)
    edges = np.array(right.edges) / right.grid
    assert edges.min(0)[:2] == pytest.approx((1 / 14, 9 / 14), abs=0.04)
    assert edges.max(0)[2:] == pytest.approx((4 / 14, 13 / 14), abs=0.04)


def test_only_stated_findings_with_a_map_have_an_outline() -> None:
    maps = maps_with(Effusion=(10, 3), Nodule=(2, 2), Mass=(5, 5))
    maps["Mass"][5, 5] = 4.0
    assert outline_findings(maps, {"Support Devices"}, MEASURES) == ()
    (surer,) = outline_findings(maps, {"Lung Lesion"}, MEASURES)
    assert (surer.finding, surer.measure) == ("Mass", None)


def test_a_regions_finding_is_likely_there_and_not_elsewhere() -> None:
    maps = maps_with(Effusion=(10, 3), Nodule=(2, 10))
    maps["Effusion"][2, 10] = 2.5  # likely, but likelier elsewhere
    heats = {"Nodule": (0.65, 0.1, 0.2, 0.1), "Effusion": (0.15, 0.65, 0.2, 0.2)}
    for finding, box in heats.items():
        assert finding_in_region(maps, ReaderRegion((box,)).heatmap()) == finding


def test_measures_are_read_from_the_encoders_folder(tmp_path: Path) -> None:
    assert read_map_measures(eclip_folder(DEFAULT_ENCODER))["Effusion"] == MapMeasure(82, 123)
    assert read_map_measures(tmp_path) == read_map_measures(None) == {}
    (tmp_path / "pointing.json").write_text('{"Effusion": {"hits": 82}}')
    with pytest.raises(CalibrationError, match=r"pointing\.json cannot be read"):
        read_map_measures(tmp_path)


def test_labels_of_maps_are_chexpert_labels() -> None:
    assert set(CHEXPERT_LABELS.values()) <= set(LABELS)


def test_an_encoder_without_maps_is_an_error_with_a_hint() -> None:
    with pytest.raises(EncoderUnavailableError, match="no finding maps"):
        locate_findings(NoMaps(), phantom(), head=None, measures=MEASURES)


def test_overlays_do_not_overwrite_each_other(tmp_path: Path) -> None:
    image = phantom()
    found = locate_findings(MapsOfTwo(), image, head=None, measures=MEASURES)
    written = []
    for _ in range(2):
        written.append(free_path(tmp_path / "out", "a", "png"))
        draw_overlay(image, found).save(written[-1])
    assert [path.name for path in written] == ["a.png", "a-2.png"]
    with Image.open(written[0]) as seen:
        colours = np.asarray(seen.convert("RGB")).reshape(-1, 3)
    assert (colours.max(1) - colours.min(1)).max() > 100  # something is drawn in colour


def test_the_command_prints_json_lines_and_writes_an_overlay(tmp_path: Path) -> None:
    path = tmp_path / "phantom.png"
    pixels = (draw_phantom(size=512, finding=PhantomFinding.LEFT_PLEURAL_EFFUSION) * 255).astype(
        np.uint8
    )
    Image.fromarray(pixels).save(path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    result = CliRunner().invoke(
        app, ["locate", str(path), str(broken), "--json", "--out", str(tmp_path / "drawn")]
    )
    assert result.exit_code == 3
    assert result.stderr.count("broken.png") == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) >= 6
    for line in lines:
        assert line.keys() == KEYS
        assert 0 <= line["probability"] <= 1
        assert all(0 <= value <= 1 for value in (*line["peak"], *line["box"]))
    assert (tmp_path / "drawn" / "phantom.png").is_file()
