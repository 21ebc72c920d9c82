"""A study to report, the region that its reader marked, and loading its images.

`load` is the first step of the pipeline: from files to pixels, or why there must be no draft. Knows
no encoder.
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
from encoders.image_io import BLANK_WARNING, read_image, read_image_info
from encoders.images.image_info import ImageInfo, same_patient
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
"""Least side of a box, as a fraction of the image: a smaller one was drawn by accident."""

HEATMAP_SIDE = 256
"""Side of the heatmap in pixels: no encoder here uses larger images."""

_DECIMALS = 4


class RegionError(CxrRagError):
    """An invalid region or gaze; the message says what is wrong and what is expected."""


@dataclass(frozen=True, slots=True)
class ReaderRegion:
    """Where a reader looked or drew on the frontal image: boxes, gaze, or both.

    Coordinates are fractions of the image's width and height.

    Attributes:
        boxes: (left, top, width, height), within the image.
        fixations: (x, y, seconds); they may be outside the image.
    """

    boxes: tuple[Row, ...] = ()
    fixations: tuple[Row, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is marked."""
        return bool(self.boxes or self.fixations)

    def heatmap(self) -> NDArray[np.float32]:
        """float32 [256, 256] in [0, 1] over the whole image, whatever its shape."""
        boxes = render_heatmap(Boxes(self.boxes), height=HEATMAP_SIDE, width=HEATMAP_SIDE)
        gaze = render_heatmap(Fixations(self.fixations), height=HEATMAP_SIDE, width=HEATMAP_SIDE)
        return np.maximum(boxes, gaze)

    def to_json(self) -> dict[str, Any]:
        """The region as JSON, without empty lists."""
        return {
            name: [list(row) for row in rows]
            for name, rows in (("boxes", self.boxes), ("fixations", self.fixations))
            if rows
        }

    @classmethod
    def from_json(cls, values: Any) -> "ReaderRegion":
        """Parse a region from a browser, a program or `to_json`; an empty object marks nothing.

        Raises:
            RegionError: another structure, not numbers, too many, or not on the image.
        """
        try:
            region = _RegionJson.model_validate(values)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"])) or "the region"
            raise RegionError(
                f"{where}: {problem['msg']} (value: {problem['input']!r:.60}); a region is like "
                '{"boxes": [[left, top, width, height]], "fixations": [[x, y, seconds]]}, '
                "finite numbers, seconds above 0"
            ) from error
        return cls(tuple(map(_clip_to_image, region.boxes)), tuple(map(_round, region.fixations)))


NO_REGION = ReaderRegion()


_Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-1e6, le=1e6)]
_Seconds = Annotated[_Number, Field(ge=1e-4)]


class _RegionJson(BaseModel, extra="forbid"):
    boxes: list[tuple[_Number, _Number, _Number, _Number]] = Field([], max_length=MAX_BOXES)
    fixations: list[tuple[_Number, _Number, _Seconds]] = Field([], max_length=MAX_FIXATIONS)


def _clip_to_image(box: Row) -> Row:
    """A box clipped to the image."""
    x, y, width, height = _round(box)
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    right, bottom = min(max(x + width, 0.0), 1.0), min(max(y + height, 0.0), 1.0)
    if right - left < MIN_BOX_SIDE or bottom - top < MIN_BOX_SIDE:
        raise RegionError(
            f"the box {box} is less than {MIN_BOX_SIDE:.0%} of the image wide or high: "
            "draw it larger"
        )
    return _round((left, top, right - left, bottom - top))


def _round(row: Row) -> Row:
    return tuple(round(value, _DECIMALS) for value in row)


@dataclass(frozen=True, slots=True)
class Study:
    """One study to report.

    Attributes:
        source: the frontal image, as a file or its bytes.
        name: name of the image in the prediction ("file").
        other_views: other views of the same study, such as a lateral; retrieval uses them.
        study_id: id of the study in the prediction; if empty, see `resolve_study_id`.
        indication: why the image was taken, if known.
        exclude: reports that must not be retrieved, such as those the reader ruled out; the
            pipeline adds the study itself, and ids in headers, paths and names, also of its prior.
        region: where the reader looked on the frontal image; it steers retrieval there.
        prior: the patient's earlier study, for comparison.
        aliases: names of the study and its images in the input.
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
    """The images of a study. Holds tens of megabytes of pixels: do not keep it.

    Attributes:
        info: header of the frontal image.
        views: the frontal image, then the other views that are readable chest X-rays of the same
            patient.
        notes: notes about the images for the reader of a draft.
    """

    info: ImageInfo
    views: tuple[CxrImage, ...]
    notes: tuple[str, ...] = ()


def load(study: Study) -> StudyImages:
    """Read the images of a study.

    Raises:
        NotAChestXray: by its header, or because it is a colour picture.
        BlankImage: every pixel has the same value.
        ImageReadError: the frontal image cannot be read.
    """
    info = read_image_info(study.source)
    frontal, notes = _read_chest_xray(study.source, info, name=study.name)
    views = [frontal]
    for number, source in enumerate(study.other_views, 2):
        view = _read_other_view(source, info)
        if isinstance(view, str):
            notes.append(f"view {number} was not used: {view}")
        else:
            views.append(view)
    return StudyImages(info, tuple(views), unique(notes))


def _read_chest_xray(
    source: Path | bytes, info: ImageInfo, *, name: str = ""
) -> tuple[CxrImage, list[str]]:
    """An image and notes about it; raises as `load` does."""
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


def _read_other_view(source: Path | bytes, frontal: ImageInfo) -> CxrImage | str:
    """Another view of the frontal image's study, or why it is not used."""
    try:
        info = read_image_info(source)
        if same_patient(frontal, info) is False:
            return "its header names another patient"
        if _is_other_study(frontal, info):
            return "its header names another study, of another day"
        return _read_chest_xray(source, info)[0]
    except ImageReadError as error:
        return error.reason.value
    except NoDraft as error:
        return str(error)


def _is_other_study(one: ImageInfo, other: ImageInfo) -> bool:
    """Whether both UID and date differ: de-identified images may each have their own UID."""
    days = {info.study_time[:8] for info in (one, other)} - {""}
    return len(days) == 2 and one.study_uid != other.study_uid


def drop_rejected(sources: Sequence[Source]) -> tuple[list[Source], tuple[str, ...]]:
    """The files, without rejection notes and the images they reject; and a note per such image.

    A rejection note is a DICOM Key Object Selection with a title such as 113001. Unreadable files
    are kept, so that `load` reports them.
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
    """The study's own id, else a pseudonym of its StudyInstanceUID, else its image's name."""
    if study.study_id:
        return study.study_id
    if info is not None and info.study_uid:
        return pseudonym(info.study_uid)
    return PurePath(study.name).stem or "study"


def pseudonym(study_uid: str) -> str:
    """A study id that only those who know the StudyInstanceUID can attribute."""
    return "dcm-" + hashlib.sha256(f"cxr-rag study {study_uid}".encode()).hexdigest()[:20]


def unique(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes without duplicates, in order."""
    return tuple(dict.fromkeys(notes))
