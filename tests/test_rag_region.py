"""A reader's region: its limits, and how it steers retrieval."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_room import Room, show_effusions

from encoders.annotations import crop_to_region
from encoders.base import CxrImage
from rag.review.audit import draft_event
from rag.study import MAX_BOXES, ReaderRegion, RegionError, Study, load

pytestmark = pytest.mark.slow

SIDE = st.floats(0.05, 0.4)
PLACE = st.floats(0.0, 0.6)


@given(x=PLACE, y=PLACE, width=SIDE, height=SIDE)
@settings(max_examples=50)
def test_the_crop_is_the_square_around_the_box(
    x: float, y: float, width: float, height: float
) -> None:
    rows, columns = np.mgrid[:400, :300].astype(np.float32)
    image = CxrImage(pixels=columns * 1000 + rows, source_sha256="0")
    seen = crop_to_region(image, ReaderRegion(((x, y, width, height),)).heatmap()).pixels
    half = max(width * 300, height * 400) * 0.75
    left, top = max((x + width / 2) * 300 - half, 0), max((y + height / 2) * 400 - half, 0)
    first = seen[0, 0]
    assert first // 1000 == pytest.approx(left, abs=4)  # the heatmap has 256 pixels a side
    assert first % 1000 == pytest.approx(top, abs=4)
    assert seen.shape[0] <= 2 * half + 8


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=5),
        max_leaves=12,
    )
)
@settings(max_examples=200)
def test_any_json_is_a_region_or_refused(rubbish: object) -> None:
    for name in ("boxes", "fixations"):
        try:
            region = ReaderRegion.from_json({name: rubbish})
        except RegionError:
            continue
        heat = region.heatmap()
        assert np.isfinite(heat).all()
        assert 0 <= heat.min() <= heat.max() <= 1 + 1e-6
        assert ReaderRegion.from_json(json.loads(json.dumps(region.to_json()))) == region


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"boxes": [[0.1, 0.1, 0.001, 0.2]]}, "larger"),
        ({"boxes": [[2.0, 2.0, 0.1, 0.1]]}, "larger"),
        ({"boxes": [[0.1, 0.1, float("nan"), 0.2]]}, "finite"),
        ({"boxes": [[0.1, 0.1, True, 0.2]]}, "finite"),
        ({"boxes": [[0, 0, 0.5, 0.5]] * (MAX_BOXES + 1)}, "at most"),
        ({"fixations": [[0.5, 0.5, 0.0]]}, "above 0"),
    ],
)
def test_an_invalid_region_is_refused_with_the_cure(values: dict[str, object], words: str) -> None:
    with pytest.raises(RegionError, match=words):
        ReaderRegion.from_json(values)


def test_a_box_is_clipped_to_the_image() -> None:
    assert ReaderRegion.from_json({"boxes": [[-0.5, 0.5, 1.0, 1.0]]}).boxes == (
        (0.0, 0.5, 0.5, 0.5),
    )


def test_a_region_steers_retrieval_and_is_recorded(room: Room, image: Path) -> None:
    plain = room.pipeline.prepare(Study(image, "image")).prediction
    assert "region" not in plain.to_json()
    assert "region" not in draft_event(plain, images=[], indication="", ruled_out=[])
    region = ReaderRegion(((0.1, 0.2, 0.3, 0.4),))
    steered = room.pipeline.prepare(Study(image, "image", region=region)).prediction
    assert steered.hits != plain.hits
    assert steered.labels == plain.labels
    recorded = {"boxes": [[0.1, 0.2, 0.3, 0.4]]}
    assert steered.to_json()["region"] == recorded
    event = draft_event(steered, images=[], indication="", ruled_out=[])
    assert event["region"] == recorded


def test_finding_maps_steer_retrieval_to_the_findings_in_the_region(
    room: Room, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show_effusions(room.pipeline.encoder, monkeypatch)
    analyzer, region = room.pipeline.analyzer, ReaderRegion(((0.1, 0.6, 0.3, 0.3),))
    images = load(Study(image, "image"))
    plain, steered = analyzer.analyze(images), analyzer.analyze(images, region=region)
    stated, denied = analyzer.encoder.embed_texts(["Pleural effusion.", "No pleural effusion."])
    towards = stated - denied
    assert steered.query_vector @ towards > plain.query_vector @ towards
    assert any("effusion" in note for note in steered.notes)
    found = room.pipeline.search_regions(Study(image, "image"), [ReaderRegion(), region])
    assert [finding for _, finding in found] == ["", "effusion"]
    assert analyzer.steer_to_region(ReaderRegion(), steered, images).region_vector is None


def test_without_finding_maps_the_crop_steers_retrieval(room: Room, image: Path) -> None:
    images, region = load(Study(image, "image")), ReaderRegion(((0.1, 0.6, 0.3, 0.3),))
    analyzer = room.pipeline.analyzer
    plain = analyzer.analyze(images)
    (crop,) = analyzer.encoder.embed_images([crop_to_region(images.views[0], region.heatmap())])
    steered = analyzer.steer_to_region(region, plain, images)
    assert steered.query_vector @ crop > plain.query_vector @ crop


def test_without_a_region_only_the_image_is_encoded(
    room: Room, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = room.pipeline.prepare(Study(image, "image")).prediction
    asked: list[int] = []
    embed = room.pipeline.encoder.embed_images
    monkeypatch.setattr(
        room.pipeline.encoder,
        "embed_images",
        lambda images: asked.append(len(images)) or embed(images),
    )
    again = room.pipeline.prepare(Study(image, "image", region=ReaderRegion())).prediction
    assert asked == [1]
    assert replace(again, seconds={}) == replace(plain, seconds={})
