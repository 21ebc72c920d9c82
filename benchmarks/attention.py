"""Does a region that the reader boxes bring better reports? NIH films with radiologists' boxes.

Every film is asked for five reports by the whole film, and by ways of letting its boxes weigh more:
a crop, and the trained heatmap processors, each of which never saw the patients it is asked about
(`encoders.training.steering` made them, five of a kind). The same with the boxes mirrored left to
right is the control: what pointing anywhere does. Normal films with a borrowed box say whether
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
from encoders.eclip.steering import ProcessorSteering, load_processor
from encoders.eclip.weights import SHIPPED, load_pretrained
from encoders.image_io import read_image
from encoders.steering import CropSteering, Steering, around
from encoders.training.steering import FOLDS, KINDS
from rag.assembly import load_encoder
from rag.attention import Attention
from rag.expectation import NOTHING_KNOWN
from rag.label_head import load_label_head
from rag.language.assertion import Polarity
from rag.language.labeller import label_text
from rag.language.statements import read_sentence
from rag.retriever import FilmQuery, ReportRetriever
from rag.schema import Hit
from rag.settings import RetrievalSettings, load_settings
from rag.store import SearchMode, open_store

K = 5
SAMPLES = 10_000
OPACITY = ("Lung Opacity", "Consolidation", "Pneumonia")
BOX_LABELS = ("Lung Opacity (possible pneumonia)", "Pneumonia", "Infiltrate")

Rows = NDArray[np.float32]
Shares = NDArray[np.float64]
Hits = tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Film:
    """A film and boxes on it, fractions of its width and height: rows [N, 4] of x, y, w, h."""

    film_id: str
    image: CxrImage
    boxes: NDArray[np.float64]
    normal: bool = False

    @property
    def patient(self) -> str:
        """Whose film it is."""
        return self.film_id.partition("_")[0]

    @property
    def side(self) -> str:
        """The patient's side on which all boxes lie; empty where they lie on both."""
        middles = self.boxes[:, 0] + self.boxes[:, 2] / 2
        return "right" if (middles < 0.5).all() else "left" if (middles > 0.5).all() else ""

    @property
    def heat(self) -> Rows:
        """The boxes as the page makes them into a heatmap."""
        return Attention(tuple(map(tuple, self.boxes.tolist()))).heatmap()

    def mirrored(self) -> "Film":
        """The same film with its boxes on the other side."""
        boxes = self.boxes.copy()
        boxes[:, 0] = 1 - boxes[:, 0] - boxes[:, 2]
        return replace(self, boxes=boxes)


class OutOfFold:
    """For each film the processor that was trained without its patient."""

    def __init__(self, folder: Path, kind: str) -> None:
        model, transform = load_pretrained(SHIPPED)
        self._of: dict[str, Steering] = {}
        for number in range(FOLDS):
            processor, facts = load_processor(folder / f"{kind}-fold{number}.safetensors")
            steering = ProcessorSteering(model, transform, processor)
            self._of.update(dict.fromkeys(facts["held_out"], steering))

    def steer(self, film: Film, vector: Rows) -> Rows:
        """As in `Steering`, for a film of this benchmark."""
        return self._of[film.film_id].steer(film.image, vector, film.heat)


def main() -> None:
    args = _arguments()
    settings = load_settings(args.config)
    films = read_films(args.data)
    encoder = load_encoder(settings)
    whole = encoder.embed_images([film.image for film in films])
    crop = CropSteering(encoder)

    def by_crop(film: Film, vector: Rows) -> Rows:
        return crop.steer(film.image, vector, film.heat)

    ways: dict[str, Callable[[Film, Rows], Rows]] = {"crop": by_crop}
    ways |= {kind: OutOfFold(args.steering, kind).steer for kind in KINDS}
    asked = {"whole film": whole}
    cropped = [around(film.image, film.heat) for film in films]
    asked["crop alone"] = encoder.embed_images(cropped)
    for name, steer in ways.items():
        pairs = list(zip(films, whole, strict=True))
        asked[f"film + {name}"] = np.stack([steer(*pair) for pair in pairs])
        there = [steer(film.mirrored(), vector) for film, vector in pairs]
        asked[f"film + {name}, mirrored"] = np.stack(there)
    head = load_label_head(encoder.encoder_id)
    with open_store(settings.index_dir, encoder=encoder, search=SearchMode.EXACT) as store:
        near = RetrievalSettings(k=K, cover_expected=False)
        by_vector = ReportRetriever(store=store, encoder=encoder, settings=near)
        as_page = ReportRetriever(store=store, encoder=encoder, settings=settings.retrieval)
        nearest, shown = {}, {}
        for name, rows in asked.items():
            nearest[name] = [by_vector.retrieve(FilmQuery(vector=row), k=K).hits for row in rows]
            queries = [
                FilmQuery(vector=row, expectation=head.expect(own) if head else NOTHING_KNOWN)
                for row, own in zip(rows, whole, strict=True)
            ]
            shown[name] = [as_page.retrieve(query, k=K).hits for query in queries]
    print(
        f"encoder {encoder.encoder_id}; top {K}; {SAMPLES} resamples of patients, seed {args.seed}"
    )
    for title, found in (("by similarity alone", nearest), ("as the page retrieves", shown)):
        print(f"\n### {title}")
        table("an opacity is there (higher)", films, found, says_opacity, of=boxed, seed=args.seed)
        table("on the box's side (higher)", films, found, says_side, of=sided, seed=args.seed)
        table(
            "opacity on normal films (lower)", films, found, says_opacity, of=normal, seed=args.seed
        )


def boxed(film: Film) -> bool:
    return not film.normal


def sided(film: Film) -> bool:
    return boxed(film) and bool(film.side)


def normal(film: Film) -> bool:
    return film.normal


def read_films(folder: Path) -> list[Film]:
    """Films whose boxes are all of an opacity, and normal ones with the boxes of another film."""
    found, free = [], []
    for line in (folder / "expert_boxes.jsonl").read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        boxes = [box for box in values["boxes"] if box["label"] in BOX_LABELS]
        image = folder / values["image"]
        if not values["boxes"] and values.get("rsna_class") == "Normal" and image.is_file():
            free.append((values["id"], image))
        elif boxes and len(boxes) == len(values["boxes"]):
            parts = np.array([[box[key] for key in ("nx", "ny", "nw", "nh")] for box in boxes])
            found.append(Film(values["id"], read_image(image), parts))
    lent = np.random.default_rng(0).integers(len(found), size=len(free))
    return found + [
        Film(name, read_image(path), found[row].boxes, normal=True)
        for (name, path), row in zip(free, lent, strict=True)
    ]


def says_opacity(hit: Hit, film: Film) -> bool:
    """Whether a report says that there is, or may be, an opacity of the lung."""
    labels = label_text(hit.record.text)
    return any(labels.get(name) in (Polarity.POSITIVE, Polarity.UNCERTAIN) for name in OPACITY)


def says_side(hit: Hit, film: Film) -> bool:
    """Whether a report says so of the side on which the boxes lie."""
    sentences = (hit.record.sentence(span) for span in hit.record.sentences)
    return any(
        statement.label in OPACITY
        and statement.polarity in (Polarity.POSITIVE, Polarity.UNCERTAIN)
        and film.side in statement.sides
        for sentence in sentences
        for statement in read_sentence(sentence).statements
    )


def table(
    measure: str,
    films: Sequence[Film],
    found: dict[str, list[Hits]],
    says: Callable[[Hit, Film], bool],
    *,
    of: Callable[[Film], bool],
    seed: int,
) -> None:
    """Print a Markdown table: share of the reports that say it, and paired differences."""
    rows = [number for number, film in enumerate(films) if of(film)]
    patients = [films[number].patient for number in rows]
    shares = {
        name: np.array(
            [np.mean([says(hit, films[number]) for hit in hits[number]]) for number in rows]
        )
        for name, hits in found.items()
    }
    first = shares["whole film"]
    people = f"n = {len(rows)} films of {len(set(patients))} patients"
    print(f"\n| {measure}, {people} | share | against the whole film", end=" | ")
    print("against its mirror | against film + crop |\n|---|---|---|---|---|")
    for name, values in shares.items():
        cells = [with_interval(values, patients, seed=seed, sign=False)]
        mirror, crop = shares.get(f"{name}, mirrored"), shares["film + crop"]
        others = (first, mirror, None if name.endswith("mirrored") else crop)
        for other in others:
            alone = other is None or other is values
            cells.append("" if alone else with_interval(values - other, patients, seed=seed))
        print(f"| {name} | {' | '.join(cells)} |")


def with_interval(values: Shares, patients: Sequence[str], *, seed: int, sign: bool = True) -> str:
    """Mean and 95 % percentile bootstrap, patients drawn with all their films."""
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
