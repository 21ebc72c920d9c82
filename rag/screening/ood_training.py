"""Makes the pixel judge of an encoder: ``python -m rag.screening.ood_training [--data FOLDER]``.

Fitted on frontal and lateral images of Open-I's training split and every second NIH image; the
threshold is the value that 99 % of each kind of the calibration images stay under: the first half
of
Open-I's validation images, frontal and lateral, and a quarter of the NIH images. What is printed,
as
Markdown, is of images that had no part in it, and of whatever `data/dicom` and ``--pictures`` hold.
"""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from encoders.base import CxrImage
from encoders.eclip import load_encoder
from encoders.eclip.weights import SHIPPED
from encoders.images.image_info import ImageInfo
from encoders.images.image_io import read_image, read_image_info
from encoders.images.raw_image import ImageReadError
from encoders.training.sources.openi import read_openi
from rag.screening.header import judge_colour, judge_header
from rag.screening.out_of_distribution import (
    LATERAL_FROM,
    OOD_DETECTOR,
    FeatureEncoder,
    OodDetector,
    write_ood_detector,
)

DIMENSIONS = 64
MAY_BE_REFUSED = 0.01
LATERALS_TO_FIT = 1200

Features = NDArray[np.float32]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, calibrate, print what was measured, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--model", type=Path, default=None, help="default: the shipped encoder")
    parser.add_argument("--pictures", type=Path, nargs="*", default=[], help="no images, to refuse")
    parser.add_argument("--out", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    encoder = load_encoder(chosen.model)
    openi = _openi(encoder, chosen.data / "openi")
    nih = features_of(encoder, sorted((chosen.data / "nih_boxes" / "images").iterdir()))
    judge = fit(openi["train frontal"], openi["train lateral"], nih[::2], name=encoder.encoder_id)
    halves = {kind: len(openi[kind]) // 2 for kind in ("val frontal", "val lateral")}
    to_calibrate = [openi[kind][:half] for kind, half in halves.items()] + [nih[1::4]]
    judge = replace(judge, threshold=threshold_of(judge, to_calibrate))
    must_pass = {f"Open-I {kind}": openi[kind][half:] for kind, half in halves.items()}
    must_pass["NIH frontal"] = nih[3::4]
    print(passed_table(judge, must_pass))  # noqa: T201
    print(refused_table(encoder, judge, _dicom(chosen.data / "dicom"), chosen.pictures))  # noqa: T201
    out = chosen.out or (chosen.model or SHIPPED) / OOD_DETECTOR
    write_ood_detector(out, judge)


def features_of(encoder: FeatureEncoder, images: Iterable[Path | CxrImage]) -> Features:
    """Features of images, float32 [N, F]; what cannot be read is left out."""
    rows = []
    for source in images:
        try:
            image = read_image(source) if isinstance(source, Path) else source
        except ImageReadError:
            continue
        rows.append(encoder.embed_with_features([image])[1][0])
    return np.stack(rows)


def fit(frontal: Features, lateral: Features, further: Features, *, name: str) -> OodDetector:
    """Subspace of all images; a logistic unit between Open-I's frontals and laterals."""
    images = np.concatenate([frontal, lateral, further]).astype(np.float64)
    mean = images.mean(0)
    basis = np.linalg.svd(images - mean, full_matrices=False)[2][:DIMENSIONS]
    known = np.concatenate([frontal, lateral])
    truth = np.repeat([0, 1], [len(frontal), len(lateral)])
    line = LogisticRegression(C=0.1, max_iter=3000).fit(known, truth)
    return OodDetector(
        encoder_id=name,
        mean=mean.astype(np.float32),
        basis=basis.astype(np.float16).astype(np.float32),
        threshold=1.0,
        lateral=np.append(line.coef_[0], line.intercept_).astype(np.float32),
    )


def threshold_of(judge: OodDetector, kinds: Sequence[Features]) -> float:
    """The lowest threshold under which all but `MAY_BE_REFUSED` of each kind stay."""
    limits = [
        np.quantile(judge.scores(kind), 1 - MAY_BE_REFUSED, method="higher") for kind in kinds
    ]
    return round(float(max(limits)) + 0.0005, 3)


def passed_table(judge: OodDetector, kinds: dict[str, Features]) -> str:
    """Images that must not be refused: how many are, and how many are called laterals."""
    lines = [
        f"threshold {judge.threshold}\n",
        "| images, not used before | n | refused | median score | highest | called lateral |",
        "|---|---|---|---|---|---|",
    ]
    for kind, features in kinds.items():
        scores = judge.scores(features)
        refused, called = (scores > judge.threshold).sum(), _called_lateral(judge, features)
        lines.append(
            f"| {kind} | {len(scores)} | {refused} ({refused / len(scores):.1%}) | "
            f"{np.median(scores):.3f} | {scores.max():.3f} | {called} |"
        )
    return "\n".join(lines) + "\n"


def refused_table(
    encoder: FeatureEncoder,
    judge: OodDetector,
    dicom: Sequence[tuple[str, Path]],
    pictures: Sequence[Path],
) -> str:
    """What should be refused: by its header, by its pixels, by either."""
    lines = ["| file | header or colour | pixels | score |", "|---|---|---|---|"]
    for name, path in [*dicom, *((path.name, path) for path in pictures)]:
        header = judge_header(_facts(path)).refusal
        try:
            image = read_image(path)
            header = header or judge_colour(image.warnings)
            (score,) = judge.scores(features_of(encoder, [image]))
        except ImageReadError:
            pixels, shown = "unreadable", "-"
        else:
            pixels, shown = "refused" if score > judge.threshold else "passed", f"{score:.3f}"
        lines.append(f"| {name} | {header.kind if header else 'passed'} | {pixels} | {shown} |")
    return "\n".join(lines)


def _openi(encoder: FeatureEncoder, folder: Path) -> dict[str, Features]:
    studies = read_openi(folder)
    images = {
        "train frontal": [s.frontals[0] for s in studies if s.split == "train" and s.frontals],
        "train lateral": [s.laterals[0] for s in studies if s.split == "train" and s.laterals],
        "val frontal": [s.frontals[0] for s in studies if s.split == "val" and s.frontals],
        "val lateral": [s.laterals[0] for s in studies if s.split == "val" and s.laterals],
    }
    images["train lateral"] = images["train lateral"][:LATERALS_TO_FIT]
    return {kind: features_of(encoder, paths) for kind, paths in images.items()}


def _dicom(folder: Path) -> list[tuple[str, Path]]:
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [(file, folder / file) for file in (json.loads(line)["file"] for line in lines)]


def _facts(path: Path) -> ImageInfo:
    try:
        return read_image_info(path)
    except ImageReadError:
        return ImageInfo()


def _called_lateral(judge: OodDetector, features: Features) -> int:
    return int((judge.lateral_probabilities(features) > LATERAL_FROM).sum())


if __name__ == "__main__":
    main()
