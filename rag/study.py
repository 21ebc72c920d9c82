"""One study: what is asked about it, and its images once they are loaded.

Owns what a study is called and the first step of the line, `load`: from files to pixels, or why
there must be no draft. Knows no encoder.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TypeVar

from encoders.base import CxrImage
from encoders.images.image_info import ImageInfo
from encoders.images.image_io import BLANK, read_image, read_image_info
from encoders.images.raw_image import ImageReadError
from rag.errors import BlankImage, NotAChestXray
from rag.priors import NO_PRIOR, Prior
from rag.region import NO_REGION, ReaderRegion
from rag.screening.header import judge_colour, judge_header

Source = TypeVar("Source", Path, bytes)


@dataclass(frozen=True, slots=True)
class Study:
    """One study to report.

    Attributes:
        source: the frontal image, as a file or as its bytes.
        further: other views of the same study, a lateral above all; they help to find reports.
        name: what the prediction calls the image ("file").
        study_id: what the prediction calls the study; empty: see `study_id_of`.
        study_ids, patient_ids: never to be retrieved; ids in a DICOM header are added to them.
        indication: why the image was taken, if known.
        not_relevant: report ids the reader ruled out.
        region: where the reader looked on the frontal image; it draws the search there.
        prior: the patient's own earlier study, for comparison.
    """

    source: Path | bytes
    name: str
    further: tuple[Path | bytes, ...] = ()
    study_id: str = ""
    study_ids: frozenset[str] = frozenset()
    patient_ids: frozenset[str] = frozenset()
    indication: str = ""
    not_relevant: frozenset[str] = frozenset()
    region: ReaderRegion = NO_REGION
    prior: Prior = NO_PRIOR


@dataclass(frozen=True, slots=True, eq=False)
class StudyImages:
    """The images of a study. Holds pixels, tens of megabytes: not for keeping.

    Attributes:
        info: what the frontal image's header says.
        views: the frontal image first, then those of the others that can be read.
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
    verdict = judge_header(info)
    if verdict.refusal:
        raise NotAChestXray(verdict.refusal.reason, notes=verdict.notes)
    frontal = read_image(study.source, name=study.name)
    notes = [*verdict.notes, *frontal.warnings]
    if BLANK in frontal.warnings:
        raise BlankImage(BLANK, notes=notes)
    if colour := judge_colour(frontal.warnings):
        raise NotAChestXray(colour.reason, notes=notes)
    views = [frontal]
    for number, source in enumerate(study.further, 2):
        try:
            view = read_image(source)
        except ImageReadError as error:
            notes.append(f"view {number} was not used: {error.reason.value}")
        else:
            if BLANK not in view.warnings:
                views.append(view)
    return StudyImages(info, tuple(views), once(notes))


def accepted(sources: Sequence[Source]) -> tuple[list[Source], tuple[str, ...]]:
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
    rejected = frozenset[str]().union(*(info.rejects for info in infos if info))
    kept: list[Source] = []
    notes = []
    for number, (source, info) in enumerate(zip(sources, infos, strict=True), 1):
        if info is not None and info.instance_uid in rejected:
            notes.append(f"image {number} was not used: a rejection note names it")
        elif info is None or not info.selects:
            kept.append(source)
    return kept, tuple(notes)


def study_id_of(study: Study, info: ImageInfo | None = None) -> str:
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


def once(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes in their order, each once."""
    return tuple(dict.fromkeys(notes))
