"""The vectors file: embeddings of a data set's images, reports and prompts, with its labels.

One .npz without pickles and without report text: a hash tells which reports are equal.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.report_sections import normalize_text
from eval.datasets import ClassPrompt, DatasetImage, ImageDataset, prompts
from eval.errors import EvalDataError, EvalUsageError
from eval.results import MetricValue, Result, file_info, task_card
from eval.stats import LEVEL
from rag.atomic_io import explain_disk_errors, write_bytes_atomic

SCHEMA = "cxr-rag-vectors/2"
MIN_CLASS_IMAGES = 5
"""Images with a class, and without it, that are needed to score it."""

_NORM_TOLERANCE = 1e-3

Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """A data set embedded by a model.

    Attributes:
        image_ids, patient_ids, splits: of each image, str [N].
        text_ids: str [N], equal for equal reports, empty without a report.
        image: unit vectors, float32 [N, D].
        text: unit vectors, float32 [N, D]; NaN without a report.
        labels: bool [N, L].
        classes: names of the L labels.
        single: whether each image has exactly one.
        prompt: unit vectors of `prompts`, float32 [P, D], perhaps empty.
        thumbnail: the image as 16 x 16 grey values, float32 [N, 256], perhaps empty.
    """

    encoder_id: str
    image_ids: Names
    patient_ids: Names
    splits: Names
    text_ids: Names
    image: NDArray[np.float32]
    text: NDArray[np.float32]
    labels: NDArray[np.bool_]
    classes: tuple[str, ...]
    single: bool
    prompt: NDArray[np.float32]
    thumbnail: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def prompts(self) -> tuple[ClassPrompt, ...]:
        """Texts of the rows of ``prompt``."""
        return prompts(self.classes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids, patients, labels and text ids, not over the vectors."""
        digest = hashlib.sha256("\0".join([*self.image_ids, *self.patient_ids]).encode())
        digest.update("\0".join([*self.text_ids, *self.classes]).encode() + self.labels.tobytes())
        return digest.hexdigest()

    def select(self, mask: NDArray[np.bool_]) -> "Vectors":
        """The images of a mask [N]."""
        ids = ("image_ids", "patient_ids", "splits", "text_ids")
        arrays = ("image", "text", "labels", "thumbnail")
        rows = {name: getattr(self, name) for name in (*ids, *arrays)}
        return replace(self, **{name: array[mask] for name, array in rows.items() if len(array)})

    def in_split(self, split: str) -> "Vectors":
        """The images of one split, or all if ``split`` is empty.

        Raises:
            EvalUsageError: no image is in that split.
        """
        if not split:
            return self
        if split not in self.splits:
            splits = ", ".join(sorted({name or "(none)" for name in self.splits}))
            raise EvalUsageError(f"no image is in split {split!r}; there are: {splits}")
        return self.select(self.splits == split)

    def with_reports(self) -> "Vectors":
        """The images that have a report."""
        return self.select(self.text_ids != "")

    def with_classes(self, names: Sequence[str]) -> "Vectors":
        """Only these classes, in this order."""
        prompt_labels = np.array([prompt.label for prompt in self.prompts[: len(self.prompt)]])
        rows = np.concatenate([np.flatnonzero(prompt_labels == name) for name in names])
        return replace(
            self,
            labels=self.labels[:, [self.classes.index(name) for name in names]],
            classes=tuple(names),
            prompt=self.prompt[rows],
        )

    def scorable_classes(self) -> list[int]:
        """Indices of the classes with enough images with and without them."""
        positive = self.labels.sum(axis=0)
        enough = np.minimum(positive, len(self) - positive) >= MIN_CLASS_IMAGES
        return [int(i) for i in np.flatnonzero(enough)]

    def result(
        self,
        task: str,
        *,
        path: Path,
        numbers: list[MetricValue],
        settings: dict[str, Any],
        curves: dict[str, Any] | None = None,
        notes: Sequence[str] = (),
        blanks: Mapping[str, object] = MappingProxyType({}),
    ) -> Result:
        """The result of a task on these vectors; ``blanks`` complete its card."""
        measures = list(dict.fromkeys(number.measure for number in numbers))
        return Result(
            task=task,
            name=self.encoder_id,
            models={"encoder_id": [self.encoder_id]},
            dataset={
                "vectors": file_info(path),
                "fingerprint": self.fingerprint,
                "studies": len(self),
                "patients": len(set(self.patient_ids)),
            },
            settings={"level": LEVEL, **settings},
            cards=[task_card(task, measures, **blanks)],
            numbers=numbers,
            curves=curves or {},
            notes=list(notes),
        )


def make_vectors(
    data: ImageDataset,
    *,
    encoder_id: str,
    image: NDArray[np.float32],
    text: NDArray[np.float32] | None = None,
    prompt: NDArray[np.float32] | None = None,
    thumbnail: NDArray[np.float32] | None = None,
) -> Vectors:
    """Checked vectors of a data set; shapes as in `Vectors`, rows in the order of its images.

    Raises:
        EvalDataError: a shape does not fit, or a row is not a unit vector.
    """
    images = data.images
    _check_rows("image", image, count=len(images))
    if text is None:
        text = np.full_like(image, np.nan)
    has_text = np.array([bool(i.text) for i in images]) & ~np.isnan(text).any(axis=1)
    _check_rows("text", text[has_text], count=int(has_text.sum()))
    if prompt is None:
        prompt = np.empty((0, image.shape[1]), dtype=np.float32)
    _check_rows("prompt", prompt, count=len(prompts(data.classes)) if len(prompt) else 0)
    if len({rows.shape[1] for rows in (image, text, prompt)}) > 1:
        raise EvalDataError("image, text and prompt vectors have different lengths")
    return Vectors(
        encoder_id=encoder_id,
        image_ids=np.array([i.image_id for i in images]),
        patient_ids=np.array([i.patient_id for i in images]),
        splits=np.array([i.split for i in images]),
        text_ids=np.where(has_text, [_text_id(i) for i in images], ""),
        image=image,
        text=text,
        labels=np.array([[label in i.labels for label in data.classes] for i in images]),
        classes=data.classes,
        single=data.single,
        prompt=prompt,
        thumbnail=np.empty((0, 256), np.float32) if thumbnail is None else thumbnail,
    )


def _check_rows(name: str, rows: NDArray[np.float32], *, count: int) -> None:
    if rows.ndim != 2 or len(rows) != count:
        raise EvalDataError(f"{name} vectors have shape {rows.shape}, not ({count}, D)")
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    invalid = np.flatnonzero(~(np.abs(norms - 1) < _NORM_TOLERANCE))
    if len(invalid):
        raise EvalDataError(
            f"row {invalid[0]} of the {name} vectors has norm {norms[invalid[0]]:.4g}, not 1: "
            "normalise the vectors"
        )


def save_vectors(path: Path, vectors: Vectors) -> None:
    """Write a vectors file atomically.

    Raises:
        EvalDataError: it cannot be written.
    """
    arrays = {field.name: np.array(getattr(vectors, field.name)) for field in fields(vectors)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, schema=np.array(SCHEMA), **arrays)
    with explain_disk_errors(path, EvalDataError):
        write_bytes_atomic(path, buffer.getvalue())


def load_vectors(path: Path) -> Vectors:
    """Read a file written by `save_vectors`.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: it is damaged or has another schema.
    """
    saved = load_arrays(path)
    if str(saved.pop("schema", "")) != SCHEMA:
        raise EvalDataError(f"{path} is not a vectors file of schema {SCHEMA}: embed again")
    missing = {field.name for field in fields(Vectors)} - saved.keys()
    if missing:
        raise EvalDataError(f"{path} lacks {', '.join(sorted(missing))}: embed again")
    saved |= {name: saved[name].tolist() for name in ("encoder_id", "single")}
    return Vectors(**saved | {"classes": tuple(saved["classes"].tolist())})


def load_arrays(path: Path) -> dict[str, Any]:
    """Arrays of any .npz, without pickles.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: it is not an .npz of plain arrays.
    """
    if not path.is_file():
        raise EvalUsageError(f"there is no file {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise EvalDataError(f"{path} is not an .npz of plain arrays ({error})") from error


def _text_id(image: DatasetImage) -> str:
    return hashlib.sha256(normalize_text(image.text).encode()).hexdigest()[:16]
