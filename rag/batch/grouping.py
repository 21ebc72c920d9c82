"""Images -> studies: which belong together, which one is reported from, what the study is called.

Images of a list belong together by its ``study_id``; DICOM images by StudyInstanceUID, without one
by
AccessionNumber; every other image is a study of its own (or every folder is one, if the user says
so). Of a study's images the frontal one is reported from: PA before AP before one without a view.
Laterals are further views; what is left over is named, not used.

Names: no identifier of a header ever becomes one. A DICOM study is called ``dcm-`` and 20 digits
of the SHA-256 of its StudyInstanceUID: the same everywhere, every time. Other studies bear the
user's own path. Where a path holds what the header says is an identifier, it is not written: the
image is then called after its study, and a study without StudyInstanceUID after the image's
content.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from encoders.base import View
from encoders.images.image_info import ImageFormat, ImageInfo, read_facts
from encoders.images.raw_image import ImageReadError
from rag.batch.inputs import IMAGE_SUFFIXES, Image
from rag.screening.header import judge_header
from rag.study import pseudonym

logger = logging.getLogger(__name__)

_READERS = 4  # threads that wait for the disk
_RANK = {View.PA: 0, View.AP: 1, View.UNKNOWN: 2, View.LATERAL: 3}


@dataclass(frozen=True, slots=True)
class BatchStudy:
    """One study of a batch.

    Attributes:
        study_id: what its prediction is called.
        image: the one to report from.
        name: what predictions call that image.
        further: laterals.
        unused: images of the study that are neither.
        indication: why the images were taken.
        patient_ids: never to be retrieved, as a list says them.
        paths: all images as the input names them, for finding studies that they name.
    """

    study_id: str
    image: Path
    name: str
    further: tuple[Path, ...] = ()
    unused: tuple[Path, ...] = ()
    indication: str = ""
    patient_ids: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """An image with what its header says; None where that cannot be read."""

    image: Image
    facts: ImageInfo | None

    @property
    def lateral(self) -> bool:
        if self.image.frontal is not None:
            return not self.image.frontal
        return self.facts is not None and self.facts.view is View.LATERAL


def group_images(images: Sequence[Image], *, by_folder: bool = False) -> list[BatchStudy]:
    """The studies of some images, sorted by study id; every image is in exactly one.

    Args:
        images: as `rag.batch.inputs.list_images` found them.
        by_folder: PNG and JPEG files of one folder are one study.
    """
    groups: dict[tuple[str, str], list[_Seen]] = {}
    for seen in _looked_at(images):
        groups.setdefault(_key(seen, by_folder=by_folder), []).append(seen)
    studies = [_study(key, group) for key, group in groups.items()]
    return sorted(_without_suffixes(studies), key=lambda study: study.study_id)


def _looked_at(images: Sequence[Image]) -> Iterator[_Seen]:
    def look(image: Image) -> _Seen:
        try:
            return _Seen(image, read_facts(image.path))
        except ImageReadError as error:
            logger.debug("a header cannot be read: %s", error.reason)
            return _Seen(image, None)  # the study will fail, with the reason, when it is its turn

    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(look, images)


def _key(seen: _Seen, *, by_folder: bool) -> tuple[str, str]:
    """What images of one study have in common: how it was found, and the value."""
    image, facts = seen.image, seen.facts
    if image.study_id:
        return "list", image.study_id
    if facts is not None and facts.format is ImageFormat.DICOM:
        study_uid, accession = facts.study_uid, facts.accession
        if study_uid:
            return "uid", study_uid
        if accession:
            return "accession", accession
    folder = str(PurePosixPath(image.name).parent)
    if by_folder and folder != "." and (facts is None or facts.format is not ImageFormat.DICOM):
        return "folder", folder
    return "image", image.name


def _study(key: tuple[str, str], group: Sequence[_Seen]) -> BatchStudy:
    kind, value = key
    ranked = sorted(group, key=_rank)
    chosen, others = ranked[0], ranked[1:]
    further = tuple(one.image.path for one in others if one.lateral and _usable(one))
    secrets = frozenset[str]().union(*(one.facts.names for one in group if one.facts))
    shown = chosen.image.name
    study_id = pseudonym(value) if kind == "uid" else value
    if any(secret in shown.lower() for secret in secrets):
        study_id = study_id if kind in ("uid", "list") else _by_content(chosen.image.path)
        shown = f"{study_id}/1"
    elif kind in ("accession", "image"):
        study_id = shown
    return BatchStudy(
        study_id=study_id,
        image=chosen.image.path,
        name=shown,
        further=further,
        unused=tuple(one.image.path for one in others if one.image.path not in further),
        indication=next((one.image.indication for one in group if one.image.indication), ""),
        patient_ids=frozenset(one.image.patient_id for one in group if one.image.patient_id),
        paths=(*([value] if kind == "list" else []), *(one.image.name for one in group)),
    )


def _by_content(path: Path) -> str:
    """A name for a study of which neither path nor header may be named."""
    with path.open("rb") as file:
        return f"image-{hashlib.file_digest(file, 'sha256').hexdigest()[:20]}"


def _rank(seen: _Seen) -> tuple[object, ...]:
    """Smallest first: the image to report from."""
    facts = seen.facts or ImageInfo()
    stated = 0 if seen.image.frontal else 1 if seen.image.frontal is None else 2
    return (
        not seen.image.chosen,
        seen.lateral,
        not _usable(seen),
        stated,
        _RANK[facts.view],
        facts.for_processing,
        -facts.pixels,
        facts.order,
        seen.image.name,
    )


def _usable(seen: _Seen) -> bool:
    return seen.facts is not None and judge_header(seen.facts).refusal is None


def _without_suffixes(studies: Sequence[BatchStudy]) -> Iterator[BatchStudy]:
    """Studies called after an image lose its suffix where that leaves the name unique.

    Of two images without a name of their own that are equal byte for byte, the second gets a
    number.
    """
    stems = Counter(_stem(study) for study in studies)
    taken: Counter[str] = Counter()
    for study in studies:
        stem = _stem(study)
        study_id = stem if stems[stem] == 1 else study.study_id
        taken[study_id] += 1
        if taken[study_id] > 1:
            study_id = f"{study_id}-{taken[study_id]}"
        yield replace(study, study_id=study_id)


def _stem(study: BatchStudy) -> str:
    if study.study_id != study.name:
        return study.study_id
    path = PurePosixPath(study.study_id)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else study.study_id
