"""Fits the out-of-distribution detector of the shipped encoder.

``python -m rag.fitting.ood_detector`` writes it to the encoder's folder.

The subspace is fitted on training images of Open-I (frontal, lateral) and of NIH (PA, and AP: the
bedside images of another hospital). The threshold is the score that 99.5 % of the images of each
kind stay below, for patients that nothing was fitted on. The printed tables are of other images of
those patients, and of images that should be refused: ``dicom/`` in the data, and ``--pictures``.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression

from encoders.base import CxrImage
from encoders.eclip.encoder import load_encoder
from encoders.image_io import read_image, read_image_info
from encoders.images.raw_image import ImageReadError
from encoders.packaged_weights import SHIPPED_ENCODER
from encoders.training.dataset import Split
from encoders.training.sources.load import data_folder, read_openi
from encoders.training.sources.nih_expert import is_held_back
from encoders.training.sources.settings import NIH_VAL_SHARE
from encoders.training.sources.tables import read_rows
from rag.screening.header import colour_refusal, screen_header
from rag.screening.out_of_distribution import (
    CERTAIN,
    OOD_DETECTOR_FILE,
    POSES,
    FeatureEncoder,
    OodDetector,
    write_ood_detector,
)

DIMENSIONS = 64
FALSE_REFUSAL_RATE = 0.005
MAX_IMAGES_PER_KIND = 1000
MAX_POSED = 1000
"""Training images of each kind that the pose classifier sees in every pose."""
NEVER = -50.0
"""Log-odds of a lateral for an encoder that was fitted without laterals."""

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ImageKind:
    """Images of one source and view: for fitting, for the threshold, and for the tables."""

    fit: list[Path]
    calibrate: list[Path]
    test: list[Path]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, calibrate, print the tables, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--model", type=Path, default=SHIPPED_ENCODER, help="folder of the encoder")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="to be refused")
    options = parser.parse_args(arguments)
    encoder = load_encoder(options.model)
    kinds = {**_openi(options.data / "openi"), **_nih(options.data)}
    fitted = {name: features_of(encoder, kind.fit) for name, kind in kinds.items()}
    poses = pose_features(encoder, {name: kind.fit[:MAX_POSED] for name, kind in kinds.items()})
    detector = fit_ood_detector(fitted, poses, encoder_id=encoder.encoder_id)
    calibration = [features_of(encoder, kind.calibrate) for kind in kinds.values()]
    detector = replace(detector, threshold=fit_threshold(detector, calibration))
    test = {name: features_of(encoder, kind.test) for name, kind in kinds.items()}
    test_poses = pose_features(encoder, {name: kind.test for name, kind in kinds.items()})
    print(passed_table(detector, test, test_poses))  # noqa: T201
    print("Most NIH patients have other images among those that set the threshold.\n")  # noqa: T201
    lines = (options.data / "dicom" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    dicom = [options.data / "dicom" / json.loads(line)["file"] for line in lines]
    print(refused_table(encoder, detector, [*dicom, *options.pictures]))  # noqa: T201
    write_ood_detector(options.model / OOD_DETECTOR_FILE, detector)


def features_of(encoder: FeatureEncoder, images: Iterable[Path | CxrImage]) -> Features:
    """Features of images, float32 [N, F]; unreadable files are skipped."""
    rows = []
    for source in images:
        try:
            image = read_image(source) if isinstance(source, Path) else source
        except ImageReadError:
            continue
        rows.append(encoder.outputs(image).features[0])
    return np.stack(rows)


def in_pose(image: CxrImage, pose: str, *, index: int = 0) -> CxrImage:
    """An upright image in another pose; images with odd and even ``index`` turn opposite ways."""
    pixels = image.pixels
    changed = {
        "mirrored": pixels[:, ::-1],
        "upside down": pixels[::-1, ::-1],
        "turned": np.rot90(pixels, 1 if index % 2 else 3),
        "inverted": 1 - pixels,
    }.get(pose, pixels)
    return replace(image, pixels=np.ascontiguousarray(changed))


def pose_features(
    encoder: FeatureEncoder, kinds: Mapping[str, Sequence[Path]]
) -> dict[str, Features]:
    """Features of the frontal images in each of `POSES`."""
    paths = [path for name, files in kinds.items() if "lateral" not in name for path in files]
    images = [read_image(path) for path in paths]
    return {
        pose: features_of(
            encoder, (in_pose(image, pose, index=i) for i, image in enumerate(images))
        )
        for pose in POSES
    }


def fit_ood_detector(
    kinds: Mapping[str, Features], poses: Mapping[str, Features], *, encoder_id: str
) -> OodDetector:
    """Fit the subspace of all kinds, and the classifiers of laterals and poses.

    The name of a kind says whether it is lateral. The threshold is yet to be fitted.
    """
    features = np.concatenate(list(kinds.values())).astype(np.float64)
    mean = features.mean(0)
    basis = np.linalg.svd(features - mean, full_matrices=False)[2][:DIMENSIONS]
    is_lateral = [np.full(len(rows), "lateral" in name) for name, rows in kinds.items()]
    lateral = np.append(np.zeros(features.shape[1]), NEVER)
    if any("lateral" in name for name in kinds):
        lateral = _fit_linear(features, np.concatenate(is_lateral))[-1]
    posed = np.concatenate([poses[pose] for pose in POSES])
    pose_indices = np.repeat(np.arange(len(POSES)), [len(poses[pose]) for pose in POSES])
    return OodDetector(
        encoder_id=encoder_id,
        mean=mean.astype(np.float32),
        basis=basis.astype(np.float16),
        threshold=1.0,
        lateral=lateral.astype(np.float32),
        poses=_fit_linear(posed, pose_indices).astype(np.float32),
    )


def _fit_linear(
    features: NDArray[np.floating], classes: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Weights and bias of each class, [C, F + 1]; one row for two classes."""
    scale = float(features.std(0).mean()) or 1.0
    model = LogisticRegression(C=0.01, max_iter=500).fit(features / scale, classes)
    return np.hstack([model.coef_ / scale, model.intercept_[:, np.newaxis]])


def fit_threshold(detector: OodDetector, kinds: Sequence[Features]) -> float:
    """The lowest threshold that refuses at most `FALSE_REFUSAL_RATE` of each kind."""
    quantile = 1 - FALSE_REFUSAL_RATE
    limits = [np.quantile(detector.scores(kind), quantile, method="higher") for kind in kinds]
    return round(float(max(limits)) + 0.0005, 3)


def passed_table(
    detector: OodDetector, kinds: Mapping[str, Features], poses: Mapping[str, Features]
) -> str:
    """Results on images that must pass, by kind, and on the frontal ones in each pose."""
    rows = []
    for name, features in [*kinds.items(), *poses.items()]:
        scores, (detected, probability) = detector.scores(features), detector.detect_poses(features)
        true_pose = POSES.index(name) if name in poses else 0
        rows.append(
            (
                name,
                len(scores),
                _share(int((scores > detector.threshold).sum()), len(scores)),
                f"{np.median(scores):.3f}",
                f"{scores.max():.3f}",
                (detector.lateral_probabilities(features) > CERTAIN).sum(),
                *np.bincount(detected, minlength=len(POSES)),
                ((probability > CERTAIN) & (detected != true_pose)).sum(),
            )
        )
    head = ["images, not used before", "n", "refused (95 %)", "median", "highest", "called lateral"]
    head += [*(f"called {pose}" for pose in POSES), "wrong pose with certainty"]
    return f"threshold {detector.threshold}\n\n{_table(head, rows)}"


def refused_table(encoder: FeatureEncoder, detector: OodDetector, pictures: Sequence[Path]) -> str:
    """Results on images that should be refused: by header or colour, and by pixels."""
    rows = []
    for path in pictures:
        by_pixels, shown_score, refusal = "unreadable", "-", ""
        with suppress(ImageReadError):
            refusal = screen_header(read_image_info(path)).refusal
        with suppress(ImageReadError):
            image = read_image(path)
            refusal = refusal or colour_refusal(image.warnings)
            (score,) = detector.scores(features_of(encoder, [image]))
            by_pixels = "refused" if score > detector.threshold else "passed"
            shown_score = f"{score:.3f}"
        by_header = "refused" if refusal else "passed"
        rows.append((f"{path.parent.name}/{path.name}", by_header, by_pixels, shown_score))
    return _table(("file", "header or colour", "pixels", "score"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _share(count: int, n: int) -> str:
    interval = stats.binomtest(count, n).proportion_ci(method="exact")
    return f"{count} ({interval.low:.1%} to {interval.high:.1%})"


def _openi(folder: Path) -> dict[str, ImageKind]:
    studies = read_openi(folder)
    kinds = {}
    for name in ("frontal", "lateral"):
        train, val = (
            [
                path
                for study in studies
                if study.split is split
                for path in (study.frontals if name == "frontal" else study.laterals)[:1]
            ]
            for split in (Split.TRAIN, Split.VAL)
        )
        half = len(val) // 2
        kinds[f"Open-I {name}"] = ImageKind(train[:MAX_IMAGES_PER_KIND], val[:half], val[half:])
    return kinds


def _nih(data: Path) -> dict[str, ImageKind]:
    """NIH images by view; the encoder's held-back patients set the threshold and test it."""
    images: dict[str, tuple[list[Path], list[Path]]] = {"AP": ([], []), "PA": ([], [])}
    ids: set[str] = set()
    for folder in ("nih_boxes", "nih_128"):
        for row in read_rows(
            data / folder / "labels.jsonl", required=("id", "image", "patient_id")
        ):
            patient, view = row.text("patient_id").zfill(8), row.text("view")
            if view in images and row.require("id") not in ids:
                ids.add(row.require("id"))
                held_back = is_held_back(patient, share=NIH_VAL_SHARE)
                images[view][held_back].append(data / folder / row.require("image"))
    return {
        f"NIH {view}": ImageKind(train[:MAX_IMAGES_PER_KIND], held_back[::2], held_back[1::2])
        for view, (train, held_back) in images.items()
    }


if __name__ == "__main__":
    main()
