"""Does a region that the reader boxes bring better reports? NIH images with radiologists' boxes.

Every image is asked for five reports by the whole image, and by ways of letting its boxes weigh
more:
a crop, and the trained heatmap processors, each of which never saw the patients it is asked about
(`encoders.training.region_steering` made them, five of a kind). The same with the boxes mirrored
left to
right is the control: what pointing anywhere does. Normal images with a borrowed box say whether
pointing makes opacities up.

    python benchmarks/attention.py --steering runs/steering [--config cpu] [--seed 0]
"""
# ruff: noqa: E402 - the path is mended before our own imports

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# A script's own folder comes first on the path, and there eval.py would hide the package eval.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from encoders.base import CxrImage
from encoders.eclip.region_steering import ProcessorSteering, load_processor
from encoders.eclip.weights import SHIPPED, load_pretrained
from encoders.images.image_io import read_image
from encoders.region_query import CropRegionQuery, RegionQuery, around
from encoders.training.region_steering import FOLDS, KINDS
from rag.factory import load_encoder
from rag.index import open_index
from rag.predicted_findings import NO_PREDICTION
from rag.region import ReaderRegion
from rag.report_nlp.assertion import Polarity
from rag.report_nlp.labeller import label_text
from rag.report_nlp.statements import read_sentence
from rag.retriever import ImageQuery, ReportRetriever
from rag.schema import Hit
from rag.screening.finding_head import load_finding_head
from rag.settings import RetrievalSettings, load_settings

K = 5
SAMPLES = 10_000
OPACITY = ("Lung Opacity", "Consolidation", "Pneumonia")
BOX_LABELS = ("Lung Opacity (possible pneumonia)", "Pneumonia", "Infiltrate")

Rows = NDArray[np.float32]
Shares = NDArray[np.float64]
Hits = tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An image and boxes on it, fractions of its width and height: rows [N, 4] of x, y, w, h."""

    image_id: str
    image: CxrImage
    boxes: NDArray[np.float64]
    normal: bool = False

    @property
    def patient(self) -> str:
        """Whose image it is."""
        return self.image_id.partition("_")[0]

    @property
    def side(self) -> str:
        """The patient's side on which all boxes lie; empty where they lie on both."""
        middles = self.boxes[:, 0] + self.boxes[:, 2] / 2
        return "right" if (middles < 0.5).all() else "left" if (middles > 0.5).all() else ""

    @property
    def heat(self) -> Rows:
        """The boxes as the page makes them into a heatmap."""
        return ReaderRegion(tuple(map(tuple, self.boxes.tolist()))).heatmap()

    def mirrored(self) -> "Image":
        """The same image with its boxes on the other side."""
        boxes = self.boxes.copy()
        boxes[:, 0] = 1 - boxes[:, 0] - boxes[:, 2]
        return replace(self, boxes=boxes)


class OutOfFold:
    """For each image the processor that was trained without its patient."""

    def __init__(self, folder: Path, kind: str) -> None:
        model, transform = load_pretrained(SHIPPED)
        self._of: dict[str, RegionQuery] = {}
        for number in range(FOLDS):
            processor, facts = load_processor(folder / f"{kind}-fold{number}.safetensors")
            steering = ProcessorSteering(model, transform, processor)
            self._of.update(dict.fromkeys(facts["held_out"], steering))

    def steer(self, image: Image, vector: Rows) -> Rows:
        """As in `RegionQuery`, for an image of this benchmark."""
        return self._of[image.image_id].steer(image.image, vector, image.heat)


def main() -> None:
    args = _arguments()
    settings = load_settings(args.config)
    images = read_images(args.data)
    encoder = load_encoder(settings)
    whole = encoder.embed_images([image.image for image in images])
    crop = CropRegionQuery(encoder)

    def by_crop(image: Image, vector: Rows) -> Rows:
        return crop.steer(image.image, vector, image.heat)

    ways: dict[str, Callable[[Image, Rows], Rows]] = {"crop": by_crop}
    ways |= {kind: OutOfFold(args.steering, kind).steer for kind in KINDS}
    asked = {"whole image": whole}
    cropped = [around(image.image, image.heat) for image in images]
    asked["crop alone"] = encoder.embed_images(cropped)
    for name, steer in ways.items():
        pairs = list(zip(images, whole, strict=True))
        asked[f"image + {name}"] = np.stack([steer(*pair) for pair in pairs])
        there = [steer(image.mirrored(), vector) for image, vector in pairs]
        asked[f"image + {name}, mirrored"] = np.stack(there)
    head = load_finding_head(encoder.encoder_id)
    with open_index(settings.index_dir, encoder=encoder) as store:
        near = RetrievalSettings(k=K, cover_expected=False)
        by_vector = ReportRetriever(store=store, encoder=encoder, settings=near)
        as_page = ReportRetriever(store=store, encoder=encoder, settings=settings.retrieval)
        nearest, shown = {}, {}
        for name, rows in asked.items():
            nearest[name] = [by_vector.retrieve(ImageQuery(vector=row), k=K).hits for row in rows]
            queries = [
                ImageQuery(vector=row, predicted=head.predict(own) if head else NO_PREDICTION)
                for row, own in zip(rows, whole, strict=True)
            ]
            shown[name] = [as_page.retrieve(query, k=K).hits for query in queries]
    print(
        f"encoder {encoder.encoder_id}; top {K}; {SAMPLES} resamples of patients, seed {args.seed}"
    )
    for title, found in (("by similarity alone", nearest), ("as the page retrieves", shown)):
        print(f"\n### {title}")
        table("an opacity is there (higher)", images, found, says_opacity, of=boxed, seed=args.seed)
        table("on the box's side (higher)", images, found, says_side, of=sided, seed=args.seed)
        table(
            "opacity on normal images (lower)",
            images,
            found,
            says_opacity,
            of=normal,
            seed=args.seed,
        )


def boxed(image: Image) -> bool:
    return not image.normal


def sided(image: Image) -> bool:
    return boxed(image) and bool(image.side)


def normal(image: Image) -> bool:
    return image.normal


def read_images(folder: Path) -> list[Image]:
    """Images whose boxes are all of an opacity, and normal ones with the boxes of another image."""
    found, free = [], []
    for line in (folder / "expert_boxes.jsonl").read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        boxes = [box for box in values["boxes"] if box["label"] in BOX_LABELS]
        image = folder / values["image"]
        if not values["boxes"] and values.get("rsna_class") == "Normal" and image.is_file():
            free.append((values["id"], image))
        elif boxes and len(boxes) == len(values["boxes"]):
            parts = np.array([[box[key] for key in ("nx", "ny", "nw", "nh")] for box in boxes])
            found.append(Image(values["id"], read_image(image), parts))
    lent = np.random.default_rng(0).integers(len(found), size=len(free))
    return found + [
        Image(name, read_image(path), found[row].boxes, normal=True)
        for (name, path), row in zip(free, lent, strict=True)
    ]


def says_opacity(hit: Hit, image: Image) -> bool:
    """Whether a report says that there is, or may be, an opacity of the lung."""
    labels = label_text(hit.record.text)
    return any(labels.get(name) in (Polarity.POSITIVE, Polarity.UNCERTAIN) for name in OPACITY)


def says_side(hit: Hit, image: Image) -> bool:
    """Whether a report says so of the side on which the boxes lie."""
    sentences = (hit.record.sentence(span) for span in hit.record.sentences)
    return any(
        statement.label in OPACITY
        and statement.polarity in (Polarity.POSITIVE, Polarity.UNCERTAIN)
        and image.side in statement.sides
        for sentence in sentences
        for statement in read_sentence(sentence).statements
    )


def table(
    measure: str,
    images: Sequence[Image],
    found: dict[str, list[Hits]],
    says: Callable[[Hit, Image], bool],
    *,
    of: Callable[[Image], bool],
    seed: int,
) -> None:
    """Print a Markdown table: share of the reports that say it, and paired differences."""
    rows = [number for number, image in enumerate(images) if of(image)]
    patients = [images[number].patient for number in rows]
    shares = {
        name: np.array(
            [np.mean([says(hit, images[number]) for hit in hits[number]]) for number in rows]
        )
        for name, hits in found.items()
    }
    first = shares["whole image"]
    people = f"n = {len(rows)} images of {len(set(patients))} patients"
    print(f"\n| {measure}, {people} | share | against the whole image", end=" | ")
    print("against its mirror | against image + crop |\n|---|---|---|---|---|")
    for name, values in shares.items():
        cells = [with_interval(values, patients, seed=seed, sign=False)]
        mirror, crop = shares.get(f"{name}, mirrored"), shares["image + crop"]
        others = (first, mirror, None if name.endswith("mirrored") else crop)
        for other in others:
            alone = other is None or other is values
            cells.append("" if alone else with_interval(values - other, patients, seed=seed))
        print(f"| {name} | {' | '.join(cells)} |")


def with_interval(values: Shares, patients: Sequence[str], *, seed: int, sign: bool = True) -> str:
    """Mean and 95 % percentile bootstrap, patients drawn with all their images."""
    _, group = np.unique(list(patients), return_inverse=True)
    sums = np.bincount(group, values)
    counts = np.bincount(group).astype(float)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (SAMPLES, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    form = "+.3f" if sign else ".3f"
    return f"{values.mean():{form}} [{low:{form}}, {high:{form}}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "nih_boxes"
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--steering", type=Path, default=Path("runs/steering"))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
