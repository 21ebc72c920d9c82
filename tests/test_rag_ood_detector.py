"""The out-of-distribution detector refuses other pictures, and passes chest X-rays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.phantom import PhantomFinding, draw_phantom
from encoders.base import CxrImage
from encoders.eclip.encoder import EclipEncoder, load_encoder
from encoders.image_io import read_image
from encoders.packaged_weights import SHIPPED_ENCODER
from encoders.training.sources.load import read_openi
from rag.errors import EncoderUnavailableError
from rag.fitting.ood_detector import fit_ood_detector, fit_threshold, in_pose
from rag.screening.header import ONLY_LATERAL
from rag.screening.out_of_distribution import (
    OOD_DETECTOR_FILE,
    POSES,
    UPRIGHT,
    OodDetector,
    load_ood_detector,
    read_ood_detector,
    write_ood_detector,
)

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def encoder() -> EclipEncoder:
    return load_encoder()


@pytest.fixture(scope="module")
def detector(encoder: EclipEncoder) -> OodDetector:
    detector = load_ood_detector(SHIPPED_ENCODER, encoder)
    assert detector is not None
    return detector


def image(pixels: np.ndarray) -> CxrImage:
    return CxrImage(pixels=pixels.astype(np.float32), source_sha256="drawn")


def encoder_features(encoder: EclipEncoder, images: list[CxrImage], pose: str) -> list[np.ndarray]:
    return [encoder.outputs(in_pose(image, pose)).features[0] for image in images]


def synthetic_features(count: int, *, shift: float = 0.0) -> np.ndarray:
    """Features near a three-dimensional subspace: float32 [N, 100]."""
    plane = np.random.default_rng(1).normal(size=(3, 100))
    rows = RNG.normal(size=(count, 3)) @ plane + 0.1 * RNG.normal(size=(count, 100)) + shift
    return rows.astype(np.float32)


def posed_features(pose: str, count: int) -> np.ndarray:
    """Such features, twenty of them raised by the pose."""
    rows, first = synthetic_features(count), 20 * POSES.index(pose)
    rows[:, first : first + 20] += 3
    return rows


def fitted(encoder_id: str) -> OodDetector:
    kinds = {"frontal": synthetic_features(200), "lateral": synthetic_features(200, shift=0.5)}
    poses = {pose: posed_features(pose, 60) for pose in POSES}
    return fit_ood_detector(kinds, poses, encoder_id=encoder_id)


def test_poses_are_detected_and_noted() -> None:
    frontal = np.array([*[0.0] * 100, -9.0])
    detector = replace(fitted("fake@1"), threshold=2.0, lateral=frontal)
    for pose in POSES[1:]:
        for row in posed_features(pose, 40):
            (note,) = detector.screen(row).notes
            assert f" {pose} (" in note
    assert not detector.screen(posed_features(UPRIGHT, 1)[0]).notes


def test_a_lateral_is_not_called_mirrored() -> None:
    detector = replace(fitted("fake@1"), threshold=2.0, lateral=np.array([*[0.0] * 100, 9.0]))
    assert detector.screen(posed_features("mirrored", 1)[0]).notes == (ONLY_LATERAL,)


def test_an_image_is_transformed_into_each_pose() -> None:
    corner = np.zeros((4, 6), np.float32)
    corner[0, 0] = 1
    places = {
        pose: np.argwhere(in_pose(image(corner), pose, index=1).pixels == 1)[0].tolist()
        for pose in POSES[:4]
    }
    assert places == {
        "upright": [0, 0],
        "mirrored": [0, 5],
        "upside down": [3, 5],
        "turned": [5, 0],
    }
    assert in_pose(image(corner), "inverted").pixels[0, 0] == 0


def test_features_outside_the_subspace_score_higher() -> None:
    detector = fitted("fake@1")
    assert detector.basis @ detector.basis.T == pytest.approx(np.eye(len(detector.basis)), abs=2e-3)
    strange = RNG.normal(size=(50, 100)).astype(np.float32) * 3
    assert detector.scores(synthetic_features(50)).max() < detector.scores(strange).min()
    known, new = synthetic_features(300), synthetic_features(300)
    detector = replace(detector, threshold=fit_threshold(detector, [known]))
    assert (detector.scores(known) > detector.threshold).mean() <= 0.01
    assert (detector.scores(new) > detector.threshold).mean() <= 0.05


def test_a_detector_survives_its_file_and_is_refused_for_another_encoder(
    tmp_path: Path, encoder: EclipEncoder
) -> None:
    detector = fitted("eclip-lite0@other")
    path = tmp_path / OOD_DETECTOR_FILE
    write_ood_detector(path, detector)
    again = read_ood_detector(path)
    assert again.encoder_id == detector.encoder_id
    assert np.array_equal(again.basis, detector.basis)
    assert np.array_equal(again.poses, detector.poses)
    with pytest.raises(EncoderUnavailableError, match="was made for eclip-lite0@other"):
        load_ood_detector(tmp_path, encoder)
    path.write_bytes(path.read_bytes().replace(b'\\"format\\": \\"3\\"', b'\\"format\\": \\"2\\"'))
    with pytest.raises(EncoderUnavailableError, match=r"another format.*fit-heads"):
        read_ood_detector(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(EncoderUnavailableError, match="damaged"):
        read_ood_detector(path)
    assert load_ood_detector(tmp_path / "nowhere", encoder) is None


@pytest.mark.parametrize("finding", list(PhantomFinding))
def test_the_phantom_passes(
    encoder: EclipEncoder, detector: OodDetector, finding: PhantomFinding
) -> None:
    features = encoder.outputs(image(draw_phantom(finding=finding))).features[0]
    assert detector.screen(features).refusal == ""


@pytest.mark.parametrize("pose", [UPRIGHT, "upside down", "turned"])
def test_the_shipped_detector_recognises_the_pose_of_a_phantom(
    encoder: EclipEncoder, detector: OodDetector, pose: str
) -> None:
    # mirrored and inverted need real images (below): the phantom is drawn too simply for them
    shown = in_pose(image(draw_phantom()), pose)
    (probabilities,) = detector.pose_probabilities(encoder.outputs(shown).features)
    assert POSES[int(probabilities.argmax())] == pose


def test_the_shipped_detector_recognises_the_pose_of_real_images(
    shared_data: Path, encoder: EclipEncoder, detector: OodDetector
) -> None:
    studies = [study for study in read_openi(shared_data / "openi") if study.split == "val"]
    images = [read_image(study.frontals[0]) for study in studies if study.frontals][:40]
    noted = {
        pose: sum(
            any(f" {pose} (" in note for note in detector.screen(row).notes)
            for row in encoder_features(encoder, images, pose)
        )
        for pose in POSES[1:]
    }
    assert min(noted.values()) >= 28, noted
    upright = [detector.screen(row) for row in encoder_features(encoder, images, UPRIGHT)]
    assert sum(bool(result.notes) for result in upright) <= 3


@pytest.mark.parametrize("kind", ["noise", "stripes", "text", "shuffled image"])
def test_synthetic_patterns_are_refused(
    encoder: EclipEncoder, detector: OodDetector, kind: str
) -> None:
    pixels = {
        "noise": RNG.random((256, 256)),
        "stripes": np.indices((256, 256)).sum(0) // 8 % 2,
        "text": np.kron(RNG.random((32, 32)) > 0.8, np.ones((8, 8))),
        "shuffled image": RNG.permutation(draw_phantom(size=256).ravel()).reshape(256, 256),
    }[kind]
    assert "does not look" in detector.screen(encoder.outputs(image(pixels)).features[0]).refusal


def test_the_shipped_detector_is_small() -> None:
    assert (SHIPPED_ENCODER / OOD_DETECTOR_FILE).stat().st_size <= 300_000


REFUSED = ("other/CR_Mod", "edge/CR_hand", "edge/SMPTE")
# dog, hip and extremity are refused by their headers; by their pixels they pass for a chest
PASSED = ("other/DX_dog", "other/RG2", "other/RG3", "chest/", "derived/", "edge/NIH")


def test_shared_images(shared_data: Path, encoder: EclipEncoder, detector: OodDetector) -> None:
    folder = shared_data / "dicom"
    seen = 0
    for path in sorted(folder.rglob("*.dcm")):
        name = path.relative_to(folder).as_posix()
        if name.startswith((*REFUSED, *PASSED)):
            result = detector.screen(encoder.outputs(read_image(path)).features[0])
            assert bool(result.refusal) == name.startswith(REFUSED), name
            seen += 1
    assert seen >= 20


def test_laterals_are_noted_and_not_refused(
    shared_data: Path, encoder: EclipEncoder, detector: OodDetector
) -> None:
    from encoders.training.sources.load import read_openi  # noqa: PLC0415

    studies = [s for s in read_openi(shared_data / "openi") if s.split == "val"]
    images = [read_image(study.laterals[0]) for study in studies[-40:] if study.laterals]
    results = [detector.screen(encoder.outputs(image).features[0]) for image in images]
    assert sum(bool(result.refusal) for result in results) <= 2
    assert sum(ONLY_LATERAL in result.notes for result in results) >= len(images) - 4
