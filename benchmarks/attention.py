"""Does a region that the reader boxes bring better reports? NIH films with radiologists' boxes.

Every film is asked for five reports by the whole film, and by ways of letting its boxes weigh more.
The encoder that ships has no trained heatmap processor (it is a part of training only), so the
region acts on the film: what is given to the encoder is cropped or dimmed. The same with the boxes
mirrored left to right is the control: what zooming alone does.

    python benchmarks/attention.py [--config cpu] [--data FOLDER] [--seed 0]
"""
# ruff: noqa: E402 - the path is mended before our own imports

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A script's own folder comes first on the path, and there eval.py would hide the package eval.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from encoders.base import CxrImage, ImageTextEncoder
from encoders.image_io import read_image
from rag.assembly import load_encoder
from rag.language.assertion import Polarity
from rag.language.labeller import label_text
from rag.language.statements import read_sentence
from rag.retriever import FilmQuery, ReportRetriever
from rag.schema import Hit
from rag.settings import RetrievalSettings, load_settings
from rag.store import SearchMode, open_store

K = 5
SAMPLES = 10_000
MARGIN = 0.25  # of a box's side, on each side of the crop
DIM = 0.4  # what is left of the contrast outside the boxes
OPACITY = ("Lung Opacity", "Consolidation", "Pneumonia")
BOX_LABELS = ("Lung Opacity (possible pneumonia)", "Pneumonia", "Infiltrate")

Map = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Film:
    """A film with boxes, as parts of its width and height: rows [N, 4] of x, y, w, h."""

    image: CxrImage
    patient: str
    boxes: NDArray[np.float64]

    @property
    def side(self) -> str:
        """The patient's side on which all boxes lie; empty where they lie on both."""
        middles = self.boxes[:, 0] + self.boxes[:, 2] / 2
        return "right" if (middles < 0.5).all() else "left" if (middles > 0.5).all() else ""

    def mirrored(self) -> "Film":
        """The same film with its boxes on the other side."""
        boxes = self.boxes.copy()
        boxes[:, 0] = 1 - boxes[:, 0] - boxes[:, 2]
        return replace(self, boxes=boxes)


def main() -> None:
    args = _arguments()
    settings = load_settings(args.config)
    films = read_films(args.data)
    encoder = load_encoder(settings)
    whole = encoder.embed_images([film.image for film in films])
    cropped = encoder.embed_images([crop(film) for film in films])
    control = encoder.embed_images([crop(film.mirrored()) for film in films])
    vectors = {
        "whole film": whole,
        "dimmed outside": encoder.embed_images([dim(film) for film in films]),
        "crop alone": cropped,
        "film + crop": unit(whole + cropped),
        "control: film + mirrored crop": unit(whole + control),
    }
    with open_store(settings.index_dir, encoder=encoder, search=SearchMode.EXACT) as store:
        retriever = ReportRetriever(
            store=store, encoder=encoder, settings=RetrievalSettings(k=K, cover_expected=False)
        )
        found = {name: retrieve(retriever, rows) for name, rows in vectors.items()}
    _print(encoder, films, found, seed=args.seed)


def read_films(folder: Path) -> list[Film]:
    """Films whose boxes are all of an opacity."""
    films = []
    for line in (folder / "expert_boxes.jsonl").read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        boxes = [box for box in values["boxes"] if box["label"] in BOX_LABELS]
        if not boxes or len(boxes) < len(values["boxes"]):
            continue
        parts = np.array([[box[key] for key in ("nx", "ny", "nw", "nh")] for box in boxes])
        image = read_image(folder / values["image"])
        films.append(Film(image, values["id"].split("_")[0], parts))
    return films


def crop(film: Film) -> CxrImage:
    """The square around all boxes, with a margin, as far as the film goes."""
    height, width = film.image.pixels.shape
    x, y, w, h = film.boxes.T
    left, right, top, bottom = x.min(), (x + w).max(), y.min(), (y + h).max()
    half = max((right - left) * width, (bottom - top) * height) * (0.5 + MARGIN)
    column, row = (left + right) / 2 * width, (top + bottom) / 2 * height
    rows = slice(int(max(row - half, 0)), int(min(row + half, height)))
    columns = slice(int(max(column - half, 0)), int(min(column + half, width)))
    return replace(film.image, pixels=np.ascontiguousarray(film.image.pixels[rows, columns]))


def heatmap(film: Film) -> Map:
    """1 in a box, 0 outside: float32 [H, W]."""
    height, width = film.image.pixels.shape
    seen = np.zeros((height, width), np.float32)
    for x, y, w, h in film.boxes:
        seen[int(y * height) : int((y + h) * height), int(x * width) : int((x + w) * width)] = 1
    return seen


def dim(film: Film) -> CxrImage:
    """The film with less contrast, about its mean, wherever no box is."""
    pixels, mean = film.image.pixels, film.image.pixels.mean()
    weight = DIM + (1 - DIM) * heatmap(film)
    return replace(film.image, pixels=(mean + (pixels - mean) * weight).astype(np.float32))


def unit(rows: Map) -> Map:
    """Rows of norm 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def retrieve(retriever: ReportRetriever, rows: Map) -> list[tuple[Hit, ...]]:
    """The nearest reports of each row, without a say of the film's labels."""
    return [tuple(retriever.retrieve(FilmQuery(vector=row), k=K).hits) for row in rows]


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


def shares(
    found: Sequence[tuple[Hit, ...]],
    films: Sequence[Film],
    says: Callable[[Hit, Film], bool],
) -> NDArray[np.float64]:
    """For each film, the share of its reports that say it."""
    return np.array(
        [
            np.mean([says(hit, film) for hit in hits])
            for hits, film in zip(found, films, strict=True)
        ]
    )


def interval(
    values: NDArray[np.float64], patients: Sequence[str], *, seed: int
) -> tuple[float, float]:
    """Percentile bootstrap, 95 %, patients drawn with all their films."""
    _, group = np.unique(list(patients), return_inverse=True)
    sums = np.bincount(group, values)
    counts = np.bincount(group).astype(float)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(sums), (SAMPLES, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def _print(
    encoder: ImageTextEncoder,
    films: list[Film],
    found: dict[str, list[tuple[Hit, ...]]],
    *,
    seed: int,
) -> None:
    print(f"encoder {encoder.encoder_id}; top {K}; {SAMPLES} resamples of patients, seed {seed}")
    one_sided = [number for number, film in enumerate(films) if film.side]
    measures: dict[str, tuple[Any, list[int]]] = {
        "an opacity is there": (says_opacity, list(range(len(films)))),
        "it is on the box's side": (says_side, one_sided),
    }
    for measure, (says, chosen) in measures.items():
        some = [films[number] for number in chosen]
        patients = [film.patient for film in some]
        print(f"\n{measure}: {len(some)} films of {len(set(patients))} patients")
        first = None
        for name, all_hits in found.items():
            values = shares([all_hits[number] for number in chosen], some, says)
            low, high = interval(values, patients, seed=seed)
            text = f"{name:<32}{values.mean():.3f} [{low:.3f}, {high:.3f}]"
            if first is None:
                first = values
                print(text)
                continue
            low, high = interval(values - first, patients, seed=seed)
            print(f"{text}   {(values - first).mean():+.3f} [{low:+.3f}, {high:+.3f}]")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "nih_boxes"
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
