"""Makes the out-of-distribution detector of an encoder: ``python -m rag.screening.ood_training``.

The subspace is fitted on training images of Open-I (frontal, lateral) and of NIH (PA, and AP: the
bedside images of another hospital). The threshold is the value that 99.5 % of each of these kinds
stay under, on images of patients that nothing was fitted on; what is printed, as Markdown, is of
further images that had no part in it (many of the NIH's are of patients who had), and of whatever
``dicom/`` and ``--pictures`` hold.
"""

import argparse
import json
import os
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
from encoders.images.image_io import read_image, read_image_info
from encoders.images.raw_image import ImageReadError
from encoders.packaged_weights import SHIPPED_ENCODER
from encoders.training.dataset import Split
from encoders.training.sources.load import read_openi
from encoders.training.sources.nih_expert import is_held_back
from encoders.training.sources.settings import NIH_VAL_SHARE
from encoders.training.sources.tables import read_rows
from rag.screening.header import colour_refusal, screen_header
from rag.screening.out_of_distribution import (
    OOD_DETECTOR,
    POSES,
    SURE,
    FeatureEncoder,
    OodDetector,
    write_ood_detector,
)

DIMENSIONS = 64
MAY_BE_REFUSED = 0.005
MOST_OF_A_KIND = 1000
NEVER = -50.0
"""Log-odds of a lateral where no lateral was seen."""
POSED = 1000
"""Training images of each kind that are also shown in every pose."""

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PictureKind:
    """Images of one sort: to fit on, to set the threshold with, to measure on."""

    fit: list[Path]
    calibrate: list[Path]
    measure: list[Path]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, calibrate, print what was measured, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--model", type=Path, default=SHIPPED_ENCODER, help="folder of the encoder")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="to be refused")
    chosen = parser.parse_args(arguments)
    encoder = load_encoder(chosen.model)
    kinds = {**_openi(chosen.data / "openi"), **_nih(chosen.data)}
    fitted = {name: features_of(encoder, kind.fit) for name, kind in kinds.items()}
    poses = posed(encoder, {name: kind.fit[:POSED] for name, kind in kinds.items()})
    detector = fit(fitted, poses, encoder_id=encoder.encoder_id)
    held = {name: features_of(encoder, kind.calibrate) for name, kind in kinds.items()}
    detector = replace(detector, threshold=threshold_of(detector, list(held.values())))
    new = {name: features_of(encoder, kind.measure) for name, kind in kinds.items()}
    new_poses = posed(encoder, {name: kind.measure for name, kind in kinds.items()})
    print(passed_table(detector, new, new_poses))  # noqa: T201
    lines = (chosen.data / "dicom" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    dicom = [chosen.data / "dicom" / json.loads(line)["file"] for line in lines]
    print(refused_table(encoder, detector, [*dicom, *chosen.pictures]))  # noqa: T201
    write_ood_detector(chosen.model / OOD_DETECTOR, detector)


def features_of(encoder: FeatureEncoder, images: Iterable[Path | CxrImage]) -> Features:
    """Features of images, float32 [N, F]; what cannot be read is left out."""
    rows = []
    for source in images:
        try:
            image = read_image(source) if isinstance(source, Path) else source
        except ImageReadError:
            continue
        rows.append(encoder.outputs(image).features[0])
    return np.stack(rows)


def in_pose(image: CxrImage, pose: str, *, number: int = 0) -> CxrImage:
    """An upright image as it would look in another pose; ``number`` decides to which side."""
    pixels = image.pixels
    changed = {
        "mirrored": pixels[:, ::-1],
        "upside down": pixels[::-1, ::-1],
        "turned": np.rot90(pixels, 1 if number % 2 else 3),
        "inverted": 1 - pixels,
    }.get(pose, pixels)
    return replace(image, pixels=np.ascontiguousarray(changed))


def posed(encoder: FeatureEncoder, kinds: Mapping[str, Sequence[Path]]) -> dict[str, Features]:
    """Features of frontal images in each of `POSES`."""
    paths = [path for name, some in kinds.items() if "lateral" not in name for path in some]
    images = [read_image(path) for path in paths]
    return {
        pose: features_of(
            encoder, (in_pose(image, pose, number=at) for at, image in enumerate(images))
        )
        for pose in POSES
    }


def fit(
    kinds: Mapping[str, Features], poses: Mapping[str, Features], *, encoder_id: str
) -> OodDetector:
    """Subspace of all kinds; linear classifiers of laterals (by the kind's name) and of poses."""
    images = np.concatenate(list(kinds.values())).astype(np.float64)
    mean = images.mean(0)
    basis = np.linalg.svd(images - mean, full_matrices=False)[2][:DIMENSIONS]
    sides = [np.full(len(rows), "lateral" in name) for name, rows in kinds.items()]
    lateral = np.append(np.zeros(images.shape[1]), NEVER)
    if any("lateral" in name for name in kinds):
        lateral = _linear(images, np.concatenate(sides))[-1]
    shown = np.concatenate([poses[pose] for pose in POSES])
    classes = np.repeat(np.arange(len(POSES)), [len(poses[pose]) for pose in POSES])
    return OodDetector(
        encoder_id=encoder_id,
        mean=mean.astype(np.float32),
        basis=basis.astype(np.float16),
        threshold=1.0,
        lateral=lateral.astype(np.float32),
        poses=_linear(shown, classes).astype(np.float32),
    )


def _linear(features: NDArray[np.floating], classes: NDArray[np.generic]) -> NDArray[np.float64]:
    """Weights and bias of each class, [C, F + 1]; one row for two classes."""
    scale = float(features.std(0).mean()) or 1.0
    model = LogisticRegression(C=0.01, max_iter=500).fit(features / scale, classes)
    return np.hstack([model.coef_ / scale, model.intercept_[:, np.newaxis]])


def threshold_of(detector: OodDetector, kinds: Sequence[Features]) -> float:
    """The lowest threshold under which all but `MAY_BE_REFUSED` of each kind stay."""
    limits = [
        np.quantile(detector.scores(kind), 1 - MAY_BE_REFUSED, method="higher") for kind in kinds
    ]
    return round(float(max(limits)) + 0.0005, 3)


def passed_table(
    detector: OodDetector, kinds: Mapping[str, Features], poses: Mapping[str, Features]
) -> str:
    """What is made of images that must not be refused, and of the frontal ones in each pose."""
    rows = []
    for name, features in [*kinds.items(), *poses.items()]:
        scores, (taken, certainty) = detector.scores(features), detector.poses_said(features)
        wrongly = (certainty > SURE) & (taken != (POSES.index(name) if name in poses else 0))
        refused = _share(int((scores > detector.threshold).sum()), len(scores))
        lateral = (detector.lateral_probabilities(features) > SURE).sum()
        spread = f"{np.median(scores):.3f}", f"{scores.max():.3f}"
        counts = np.bincount(taken, minlength=len(POSES))
        rows.append((name, len(scores), refused, *spread, lateral, *counts, wrongly.sum()))
    head = ["images, not used before", "n", "refused (95 %)", "median", "highest", "called lateral"]
    head += [*(f"taken for {pose}" for pose in POSES), "wrongly so with certainty"]
    return f"threshold {detector.threshold}\n\n{_table(head, rows)}"


def refused_table(encoder: FeatureEncoder, detector: OodDetector, pictures: Sequence[Path]) -> str:
    """What should be refused: by its header, by its pixels, by either."""
    rows = []
    for path in pictures:
        pixels, shown, header = "unreadable", "-", ""
        with suppress(ImageReadError):
            header = screen_header(read_image_info(path)).refusal
        with suppress(ImageReadError):
            image = read_image(path)
            header = header or colour_refusal(image.warnings)
            (score,) = detector.scores(features_of(encoder, [image]))
            pixels = "refused" if score > detector.threshold else "passed"
            shown = f"{score:.3f}"
        words = "refused" if header else "passed"
        rows.append((f"{path.parent.name}/{path.name}", words, pixels, shown))
    return _table(("file", "header or colour", "pixels", "score"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _share(count: int, n: int) -> str:
    interval = stats.binomtest(count, n).proportion_ci(method="exact")
    return f"{count} ({interval.low:.1%} to {interval.high:.1%})"


def _openi(folder: Path) -> dict[str, PictureKind]:
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
        kinds[f"Open-I {name}"] = PictureKind(train[:MOST_OF_A_KIND], val[:half], val[half:])
    return kinds


def _nih(data: Path) -> dict[str, PictureKind]:
    """NIH images by view; the patients held back from the encoder set and test the threshold."""
    found: dict[str, tuple[list[Path], list[Path]]] = {"AP": ([], []), "PA": ([], [])}
    known: set[str] = set()
    for folder in ("nih_boxes", "nih_128"):
        for row in read_rows(
            data / folder / "labels.jsonl", required=("id", "image", "patient_id")
        ):
            patient, view = row.text("patient_id").zfill(8), row.text("view")
            if view in found and row.require("id") not in known:
                known.add(row.require("id"))
                held = is_held_back(patient, share=NIH_VAL_SHARE)
                found[view][held].append(data / folder / row.require("image"))
    return {
        f"NIH {view}": PictureKind(train[:MOST_OF_A_KIND], held[::2], held[1::2])
        for view, (train, held) in found.items()
    }


if __name__ == "__main__":
    main()
