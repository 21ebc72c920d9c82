"""One study: what is asked about it, where its reader looked, and its images once they are loaded.

Owns what a study is called, the form and limits of a region, and the first step of the line,
`load`: from files to pixels, or why there must be no draft. Knows no encoder.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from encoders.annotations import Boxes, Fixations, render_heatmap
from encoders.base import CxrImage
from encoders.images.image_info import ImageInfo, same_patient
from encoders.images.image_io import BLANK_WARNING, read_image, read_image_info
from encoders.images.raw_image import ImageReadError
from rag.errors import BlankImage, CxrRagError, NoDraft, NotAChestXray
from rag.index import NO_EXCLUSIONS, Exclusions
from rag.priors import NO_PRIOR, Prior
from rag.screening.header import colour_refusal, screen_header

Source = TypeVar("Source", Path, bytes)
Row = tuple[float, ...]

MAX_BOXES = 8
MAX_FIXATIONS = 5000
MIN_BOX_SIDE = 0.01
"""Of a box, as a fraction of the image: less was a slip of the hand."""

HEATMAP_SIDE = 256
"""Of the heatmap in pixels; no encoder here looks at images larger than that."""

_DIGITS = 4


class RegionError(CxrRagError):
    """A region or gaze that is none; the message says what is wrong and what it should be."""


@dataclass(frozen=True, slots=True)
class ReaderRegion:
    """Where a reader looked or drew on the frontal image: a region, a gaze, or both.

    Places are fractions of the image as it is stored, upright or not: a record holds no pixel.

    Attributes:
        boxes: (left, top, width, height) each, within the image.
        fixations: (x, y, seconds) each; beside the image they only leave their tail on it.
    """

    boxes: tuple[Row, ...] = ()
    fixations: tuple[Row, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.boxes or self.fixations)

    def heatmap(self) -> NDArray[np.float32]:
        """float32 [256, 256] in [0, 1] over the whole image, whatever its shape."""
        drawn = render_heatmap(Boxes(self.boxes), height=HEATMAP_SIDE, width=HEATMAP_SIDE)
        gaze = render_heatmap(Fixations(self.fixations), height=HEATMAP_SIDE, width=HEATMAP_SIDE)
        return np.maximum(drawn, gaze)

    def to_json(self) -> dict[str, Any]:
        """What is kept: fractions with four digits; empty where there is nothing."""
        return {
            name: [list(row) for row in rows]
            for name, rows in (("boxes", self.boxes), ("fixations", self.fixations))
            if rows
        }

    @classmethod
    def from_json(cls, values: Any) -> "ReaderRegion":
        """What `to_json` wrote, or what a browser or program sent; an empty object is nowhere.

        Raises:
            RegionError: no such object, not numbers, too many, or not on the image.
        """
        try:
            sent = _SentRegion.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "the region"
            raise RegionError(
                f"{where}: {problem['msg']} (value: {problem['input']!r:.60}); a region is like "
                '{"boxes": [[left, top, width, height]], "fixations": [[x, y, seconds]]}, '
                "finite numbers, seconds above 0"
            ) from error
        return cls(tuple(map(_on_image, sent.boxes)), tuple(map(_rounded, sent.fixations)))


NO_REGION = ReaderRegion()


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e6, le=1e6)]
_Seconds = Annotated[_Number, Field(ge=1e-4)]


class _SentRegion(BaseModel, extra="forbid"):
    boxes: list[tuple[_Number, _Number, _Number, _Number]] = Field([], max_length=MAX_BOXES)
    fixations: list[tuple[_Number, _Number, _Seconds]] = Field([], max_length=MAX_FIXATIONS)


def _on_image(box: Row) -> Row:
    """A box cut to the image."""
    x, y, width, height = _rounded(box)
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    right, bottom = min(max(x + width, 0.0), 1.0), min(max(y + height, 0.0), 1.0)
    if right - left < MIN_BOX_SIDE or bottom - top < MIN_BOX_SIDE:
        raise RegionError(
            f"the box {box} is less than {MIN_BOX_SIDE:.0%} of the image wide or high: "
            "draw it larger"
        )
    return _rounded((left, top, right - left, bottom - top))


def _rounded(row: Row) -> Row:
    return tuple(round(value, _DIGITS) for value in row)


@dataclass(frozen=True, slots=True)
class Study:
    """One study to report.

    Attributes:
        source: the frontal image, as a file or as its bytes.
        other_views: other views of the same study, a lateral above all; they help to find reports.
        name: what the prediction calls the image ("file").
        study_id: what the prediction calls the study; empty: see `resolve_study_id`.
        indication: why the image was taken, if known.
        exclude: what must not be retrieved, as what the reader ruled out; the study itself and ids
            in its headers, paths and other names, and in those of its prior, are added.
        region: where the reader looked on the frontal image; it steers the search there.
        prior: the patient's own earlier study, for comparison.
        aliases: what its input calls its images, and a list the study itself.
    """

    source: Path | bytes
    name: str
    other_views: tuple[Path | bytes, ...] = ()
    study_id: str = ""
    indication: str = ""
    exclude: Exclusions = NO_EXCLUSIONS
    region: ReaderRegion = NO_REGION
    prior: Prior = NO_PRIOR
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class StudyImages:
    """The images of a study. Holds pixels, tens of megabytes: not for keeping.

    Attributes:
        info: what the frontal image's header says.
        views: the frontal image first, then those of the others that are chest X-rays of the same
            patient and can be read.
        notes: what the reader of a draft should know of them.
    """

    info: ImageInfo
    views: tuple[CxrImage, ...]
    notes: tuple[str, ...] = ()


def load(study: Study) -> StudyImages:
    """Read the images of a study.

    Raises:
        NotAChestXray: by what the header says, or because it is a picture in colour.
        BlankImage: every pixel has the same value.
        ImageReadError: the frontal image cannot be read.
    """
    info = read_image_info(study.source)
    frontal, notes = _chest_xray(study.source, info, name=study.name)
    views = [frontal]
    for number, source in enumerate(study.other_views, 2):
        view = _further_view(source, info)
        if isinstance(view, str):
            notes.append(f"view {number} was not used: {view}")
        else:
            views.append(view)
    return StudyImages(info, tuple(views), unique(notes))


def _chest_xray(
    source: Path | bytes, info: ImageInfo, *, name: str = ""
) -> tuple[CxrImage, list[str]]:
    """An image, and what its reader should know of it; raises as `load` does."""
    verdict = screen_header(info)
    if verdict.refusal:
        raise NotAChestXray(verdict.refusal, notes=verdict.notes)
    image = read_image(source, name=name)
    notes = [*verdict.notes, *image.warnings]
    if BLANK_WARNING in image.warnings:
        raise BlankImage(BLANK_WARNING, notes=notes)
    if colour := colour_refusal(image.warnings):
        raise NotAChestXray(colour, notes=notes)
    return image, notes


def _further_view(source: Path | bytes, frontal: ImageInfo) -> CxrImage | str:
    """Another view of the frontal image's study, or why it is not used."""
    try:
        info = read_image_info(source)
        if same_patient(frontal, info) is False:
            return "by its header it is another patient's"
        if _of_another_day(frontal, info):
            return "by its header it is of another study, made on another day"
        return _chest_xray(source, info)[0]
    except ImageReadError as error:
        return error.reason.value
    except NoDraft as error:
        return str(error)


def _of_another_day(one: ImageInfo, other: ImageInfo) -> bool:
    """Whether two headers name two studies and two dates; de-identified, each may have a UID."""
    days = {info.study_time[:8] for info in (one, other)} - {""}
    return len(days) == 2 and one.study_uid != other.study_uid


def drop_rejected(sources: Sequence[Source]) -> tuple[list[Source], tuple[str, ...]]:
    """The images among some files that no rejection note among them takes out of use.

    A rejection note is a DICOM Key Object Selection with the title 113001 or one of its kind. What
    cannot be read is kept, for its own failure to be told.

    Returns:
        The images in their order, and a sentence for each that was rejected.
    """
    infos: list[ImageInfo | None] = []
    for source in sources:
        try:
            infos.append(read_image_info(source))
        except ImageReadError:
            infos.append(None)
    rejected = frozenset[str]().union(*(info.rejected_uids for info in infos if info))
    kept: list[Source] = []
    notes = []
    for number, (source, info) in enumerate(zip(sources, infos, strict=True), 1):
        if info is not None and info.instance_uid in rejected:
            notes.append(f"image {number} was not used: a rejection note names it")
        elif info is None or not info.is_key_object_selection:
            kept.append(source)
    return kept, tuple(notes)


def resolve_study_id(study: Study, info: ImageInfo | None = None) -> str:
    """What a prediction calls a study that nobody has named; never empty.

    A pseudonym of the StudyInstanceUID, and without one the image's name without its suffix.
    """
    if study.study_id:
        return study.study_id
    if info is not None and info.study_uid:
        return pseudonym(info.study_uid)
    return PurePath(study.name).stem or "study"


def pseudonym(study_uid: str) -> str:
    """What a DICOM study is called. Whoever has the UID can find the study, nobody else."""
    return "dcm-" + hashlib.sha256(f"cxr-rag study {study_uid}".encode()).hexdigest()[:20]


def unique(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes in their order, each once."""
    return tuple(dict.fromkeys(notes))
