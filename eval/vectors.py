"""The vectors file: images, reports and prompts of a data set in one space, with their labels.

So that any model's vectors can be scored. One .npz without pickles and without report text: only a
hash tells which reports are equal.
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
from eval.results import MetricValue, Result, file_facts, task_card
from eval.stats import LEVEL
from rag.atomic_io import explain_disk_errors, write_bytes_atomic

SCHEMA = "cxr-rag-vectors/2"
_NORM_TOLERANCE = 1e-3

Names = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """A data set embedded by a model.

    Attributes:
        encoder_id: which model made the vectors.
        image_ids, patient_ids, splits: of each image, str [N].
        text_ids: names of the reports, str [N], equal where the reports are, empty where there is
            none.
        image: float32 [N, D], rows of norm 1.
        text: float32 [N, D], rows of norm 1, or NaN where an image has no report.
        labels: bool [N, L].
        classes: names of the L labels.
        single: whether each image has exactly one.
        prompt: float32 [P, D], rows of norm 1: the sentences of `prompts`, in their order.
        thumbnail: float32 [N, 256], the image at 16 x 16 grey values, for a baseline; empty if
            unknown.
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
        """What the rows of ``prompt`` say."""
        return prompts(self.classes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over ids, patients, labels and text names, not over the vectors."""
        digest = hashlib.sha256("\0".join([*self.image_ids, *self.patient_ids]).encode())
        digest.update("\0".join([*self.text_ids, *self.classes]).encode() + self.labels.tobytes())
        return digest.hexdigest()

    def select(self, mask: NDArray[np.bool_]) -> "Vectors":
        """The images of a mask [N]."""
        names = ("image_ids", "patient_ids", "splits", "text_ids")
        arrays = ("image", "text", "labels", "thumbnail")
        rows = {name: getattr(self, name) for name in (*names, *arrays)}
        return replace(self, **{name: each[mask] for name, each in rows.items() if len(each)})

    def in_split(self, split: str) -> "Vectors":
        """The images of one split; all of them if it is empty.

        Raises:
            EvalUsageError: there are none.
        """
        if not split:
            return self
        if split not in self.splits:
            there = ", ".join(sorted({name or "(none)" for name in self.splits}))
            raise EvalUsageError(f"no image is in split {split!r}; there are: {there}")
        return self.select(self.splits == split)

    def with_reports(self) -> "Vectors":
        """The images that have a report."""
        return self.select(self.text_ids != "")

    def with_classes(self, names: Sequence[str]) -> "Vectors":
        """With these classes alone, in this order."""
        said = np.array([each.label for each in self.prompts[: len(self.prompt)]])
        rows = np.concatenate([np.flatnonzero(said == name) for name in names])
        return replace(
            self,
            labels=self.labels[:, [self.classes.index(name) for name in names]],
            classes=tuple(names),
            prompt=self.prompt[rows],
        )

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
        """The result of a task on these vectors of a file, with the card's blanks filled in."""
        measures = list(dict.fromkeys(number.measure for number in numbers))
        return Result(
            task=task,
            name=self.encoder_id,
            models={"encoder_id": [self.encoder_id]},
            dataset={
                "vectors": file_facts(path),
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
    """Vectors of a data set, checked.

    Args:
        data: the images, in the order of the rows.
        encoder_id: which model made them.
        image: float32 [N, D].
        text: float32 [N, D], NaN where an image has no report.
        prompt: float32 [P, D].
        thumbnail: float32 [N, 256].

    Raises:
        EvalDataError: a shape does not fit, or a row is no unit vector.
    """
    images = data.images
    _check_rows("image", image, count=len(images))
    if text is None:
        text = np.full_like(image, np.nan)
    having = np.array([bool(one.text) for one in images]) & ~np.isnan(text).any(axis=1)
    _check_rows("text", text[having], count=int(having.sum()))
    if prompt is None:
        prompt = np.empty((0, image.shape[1]), dtype=np.float32)
    _check_rows("prompt", prompt, count=len(prompts(data.classes)) if len(prompt) else 0)
    if len({rows.shape[1] for rows in (image, text, prompt)}) > 1:
        raise EvalDataError("image, text and prompt vectors have different lengths")
    return Vectors(
        encoder_id=encoder_id,
        image_ids=np.array([one.image_id for one in images]),
        patient_ids=np.array([one.patient_id for one in images]),
        splits=np.array([one.split for one in images]),
        text_ids=np.where(having, [_text_id(one) for one in images], ""),
        image=image,
        text=text,
        labels=np.array([[label in one.labels for label in data.classes] for one in images]),
        classes=data.classes,
        single=data.single,
        prompt=prompt,
        thumbnail=np.empty((0, 256), np.float32) if thumbnail is None else thumbnail,
    )


def _check_rows(name: str, rows: NDArray[np.float32], *, count: int) -> None:
    """Refuse what is no matrix of unit vectors, and name the first row that is wrong."""
    if rows.ndim != 2 or len(rows) != count:
        raise EvalDataError(f"{name} vectors have shape {rows.shape}, not ({count}, D)")
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1) < _NORM_TOLERANCE))
    if len(wrong):
        raise EvalDataError(
            f"row {wrong[0]} of the {name} vectors has norm {norms[wrong[0]]:.4g}, not 1: "
            "normalise the vectors"
        )


def save_vectors(path: Path, vectors: Vectors) -> None:
    """Write a vectors file in one step.

    Raises:
        EvalDataError: it cannot be written.
    """
    arrays = {each.name: np.array(getattr(vectors, each.name)) for each in fields(vectors)}
    written = io.BytesIO()
    np.savez(written, allow_pickle=False, schema=np.array(SCHEMA), **arrays)
    with explain_disk_errors(path, EvalDataError):
        write_bytes_atomic(path, written.getvalue())


def load_vectors(path: Path) -> Vectors:
    """A vectors file that `save_vectors` wrote.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: it is damaged or of another version.
    """
    saved = load_arrays(path)
    if str(saved.pop("schema", "")) != SCHEMA:
        raise EvalDataError(f"{path} is no vectors file of schema {SCHEMA}: embed again")
    missing = {each.name for each in fields(Vectors)} - saved.keys()
    if missing:
        raise EvalDataError(f"{path} lacks {', '.join(sorted(missing))}: embed again")
    saved |= {name: saved[name].tolist() for name in ("encoder_id", "single")}
    return Vectors(**saved | {"classes": tuple(saved["classes"].tolist())})


def load_arrays(path: Path) -> dict[str, Any]:
    """Arrays of any .npz, without pickles.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: it is no .npz of plain arrays.
    """
    if not path.is_file():
        raise EvalUsageError(f"there is no file {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            return {name: saved[name] for name in saved.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise EvalDataError(f"{path} is no .npz of plain arrays ({error})") from error


def _text_id(image: DatasetImage) -> str:
    return hashlib.sha256(normalize_text(image.text).encode()).hexdigest()[:16]
