"""Images -> studies: which belong together, which one is reported from, what the study is called.

Images of a list belong together by its ``study_id``; DICOM images by StudyInstanceUID, without one
by AccessionNumber and patient; every other image is a study of its own (or every folder is one, if
the user says so). Images of two patients are never one study. Of a study's images the frontal one
is reported from: PA before AP before one without a view; of two takes of a view the later one.
Images that a rejection note (Key Object Selection) names are never reported from, those marked for
quality control only if there is nothing else. Laterals, and images whose view nothing tells, are
further views; what is left over (takes, small copies) is named, not used.

Names: no identifier of a header ever becomes one. A DICOM study is called after the SHA-256 of its
StudyInstanceUID. Other studies bear the user's own path; where that holds an identifier of the
header, the image is called after its study, or a study without StudyInstanceUID after its content.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from encoders.base import View
from encoders.images.image_info import ImageFormat, ImageInfo
from encoders.images.image_io import read_image_info
from encoders.images.raw_image import ImageReadError
from rag.batch.inputs import IMAGE_SUFFIXES, BatchStudy, ListedImage
from rag.index.ids import Exclusions
from rag.priors import NO_PRIOR, Prior, newest_before
from rag.screening.header import screen_header
from rag.study import pseudonym

logger = logging.getLogger(__name__)

ReadHeader = Callable[[Path], ImageInfo]
"""Raises `ImageReadError`."""

_READERS = 4  # threads that wait for the disk
_SMALL = 2
"""An image with less than this part of the largest one's pixels is a copy in small, no take."""

_RANK = {View.PA: 0, View.AP: 1, View.UNKNOWN: 2, View.LATERAL: 3}


@dataclass(frozen=True, slots=True)
class _Seen:
    """An image with what its header says, if that can be read."""

    image: ListedImage
    info: ImageInfo
    readable: bool = True

    @property
    def lateral(self) -> bool:
        if self.image.frontal is not None:
            return not self.image.frontal
        return self.info.view is View.LATERAL

    @property
    def unknown(self) -> bool:
        """Neither list nor header tells its view."""
        return self.image.frontal is None and self.info.view is View.UNKNOWN

    @property
    def usable(self) -> bool:
        """It can be read, and its header does not speak against a chest X-ray."""
        return self.readable and not screen_header(self.info).refusal


@dataclass(frozen=True, slots=True)
class _Key:
    """What images of one study have in common: how it was found, the value, and the patient."""

    kind: str
    value: str
    patient: str = ""


def group_images(
    images: Sequence[ListedImage],
    *,
    by_folder: bool = False,
    read: ReadHeader = read_image_info,
) -> tuple[list[BatchStudy], list[str]]:
    """Make studies of images; every image is in at most one.

    Args:
        images: as `rag.batch.inputs.list_images` found them. Key Object Selections among them are
            no images, and in no study.
        by_folder: PNG and JPEG files of one folder are one study.
        read: the header of a file.

    Returns:
        The studies, sorted by study id; and a sentence for every study that has only rejected
        images and is left out, and for every StudyInstanceUID that two patients share.
    """
    seen = _looked_at(images, read)
    rejected = frozenset[str]().union(*(one.info.rejected_uids for one in seen)) - {""}
    groups: dict[_Key, list[_Seen]] = {}
    for one in seen:
        if not one.info.is_key_object_selection:
            groups.setdefault(_key(one, by_folder=by_folder), []).append(one)
    groups, problems = _one_patient_each(groups)
    studies = []
    for key, group in groups.items():
        accepted = [one for one in group if one.info.instance_uid not in rejected]
        out = tuple(one.image.path for one in group if one.info.instance_uid in rejected)
        if accepted:
            studies.append(replace(_study(key, accepted), rejected=out))
        else:
            name = _study(key, group).study_id
            problems.append(f"every image of the study {name} was rejected: there is no draft")
    infos = {one.image.path: one.info for one in seen if one.readable}
    studies = list(_with_priors(list(_without_suffixes(studies)), infos))
    return sorted(studies, key=lambda study: study.study_id), problems


def _looked_at(images: Sequence[ListedImage], read: ReadHeader) -> list[_Seen]:
    def look(image: ListedImage) -> _Seen:
        try:
            return _Seen(image, read(image.path))
        except ImageReadError as error:
            logger.debug("a header cannot be read: %s", error.reason)
            # the study will fail, with the reason, when it is its turn
            return _Seen(image, ImageInfo(), readable=False)

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(look, images))


def _key(seen: _Seen, *, by_folder: bool) -> _Key:
    image, info = seen.image, seen.info
    if image.study_id:
        return _Key("list", image.study_id)
    if info.format is ImageFormat.DICOM:
        patient = info.identity.patient_id
        if info.study_uid:
            return _Key("uid", info.study_uid, patient)
        if info.accession:
            return _Key("accession", info.accession, patient or info.person)
    folder = str(PurePosixPath(image.name).parent)
    if by_folder and folder != "." and info.format is not ImageFormat.DICOM:
        return _Key("folder", folder)
    return _Key("image", image.name)


def _one_patient_each(
    groups: Mapping[_Key, list[_Seen]],
) -> tuple[dict[_Key, list[_Seen]], list[str]]:
    """Groups of one patient each; a StudyInstanceUID is enough where nobody contradicts it.

    And a sentence for each StudyInstanceUID that several patients share.
    """
    patients: defaultdict[str, set[str]] = defaultdict(set)
    for key in groups:
        if key.kind == "uid":
            patients[key.value] |= {key.patient} - {""}
    found: defaultdict[_Key, list[_Seen]] = defaultdict(list)
    for key, group in groups.items():
        of_one = key.kind == "uid" and len(patients[key.value]) <= 1
        found[replace(key, patient="") if of_one else key] += group
    shared = [
        f"images of {len(several)} patients bear the StudyInstanceUID of {pseudonym(uid)}: they "
        "are kept apart"
        for uid, several in patients.items()
        if len(several) > 1
    ]
    return found, shared


def _study(key: _Key, group: Sequence[_Seen]) -> BatchStudy:
    kind, value = key.kind, key.value
    largest = max(one.info.pixels for one in group)
    chosen, *others = sorted(group, key=lambda one: _rank(one, largest))
    other_views, unused = list[Path](), list[Path]()
    for one in others:
        (other_views if _adds_a_view(one, largest) else unused).append(one.image.path)
    secrets = frozenset[str]().union(*(one.info.identifiers for one in group))
    listed = [value] if kind == "list" else []
    shown, study_id = chosen.image.name, value
    if kind == "uid":
        study_id = pseudonym(f"{value} {key.patient}" if key.patient else value)
    if any(secret in shown.lower() for secret in secrets):
        study_id = study_id if kind in ("uid", "list") else _by_content(chosen.image.path)
        shown = f"{study_id}/1"
    elif kind in ("accession", "image"):
        study_id = shown
    return BatchStudy(
        study_id=study_id,
        source=chosen.image.path,
        name=shown,
        other_views=tuple(other_views),
        unused=tuple(unused),
        indication=next((one.image.indication for one in group if one.image.indication), ""),
        exclude=Exclusions(patients=frozenset(one.image.patient_id for one in group) - {""}),
        aliases=(*listed, *(one.image.name for one in group)),
        prior=next((one.image.prior for one in group if one.image.prior), NO_PRIOR),
    )


def _adds_a_view(one: _Seen, largest: int) -> bool:
    """Whether it is a lateral or may be one: no take, no copy, nothing to test the machine with."""
    info = one.info
    own = info.pixels * _SMALL >= largest and not info.for_processing and not info.quality_control
    return one.usable and (one.lateral or (one.unknown and own))


def _by_content(path: Path) -> str:
    """A name for a study of which neither path nor header may be named."""
    with path.open("rb") as file:
        return f"image-{hashlib.file_digest(file, 'sha256').hexdigest()[:20]}"


def _rank(one: _Seen, largest: int) -> tuple[object, ...]:
    """Of the images of a study, the one with the smallest rank is reported from."""
    info = one.info
    stated = 0 if one.image.frontal else 1 if one.image.frontal is None else 2
    return (
        not one.image.chosen,
        one.lateral,
        not one.usable,
        info.quality_control,
        stated,
        _RANK[info.view],
        info.for_processing,
        info.pixels * _SMALL < largest,
        *_lateness(info),
        one.image.name,
    )


def _lateness(info: ImageInfo) -> tuple[object, ...]:
    """The later of two takes first; images of one exposure, and those without a view, in order.

    Without a view two images need not be takes of the same: often the lateral comes second.
    """
    series, instance = info.order
    if info.view is View.UNKNOWN:
        return 0, -info.pixels, series, instance
    if info.acquired_at:
        return -int(info.acquired_at), -info.pixels, series, instance
    return 0, 0, -series, -instance


def _without_suffixes(studies: Sequence[BatchStudy]) -> Iterator[BatchStudy]:
    """Studies called after an image lose its suffix where that leaves the name unique.

    Of two images without a name that are equal byte for byte, the second gets a number.
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


def _with_priors(
    studies: Sequence[BatchStudy], infos: Mapping[Path, ImageInfo]
) -> Iterator[BatchStudy]:
    """Each study with the newest earlier one of its patient, where no list names another.

    What comes of an earlier one is its image and its structured reports, whose headers are in
    ``infos`` too.
    """
    of_patient: defaultdict[str, list[BatchStudy]] = defaultdict(list)
    for study in studies:
        if study.source in infos:
            of_patient[infos[study.source].identity.patient_id].append(study)
    reports: defaultdict[str, list[Path]] = defaultdict(list)
    for path, info in infos.items():
        if info.modality == "SR":
            reports[info.study_uid].append(path)
    for study in studies:
        current = infos.get(study.source)
        if current is None or study.prior or not current.identity.patient_id:
            yield study
            continue
        others = of_patient[current.identity.patient_id]
        uid = newest_before(current, [infos[other.source] for other in others])
        images = [other.source for other in others if uid and infos[other.source].study_uid == uid]
        files = dict.fromkeys((*images, *(reports[uid] if uid else ())))
        yield replace(study, prior=Prior(files=tuple(files)))
