"""Groups images into studies, chooses the image each is reported from, and names the studies.

Images of a list are grouped by its ``study_id``; DICOM images by StudyInstanceUID, otherwise by
AccessionNumber and patient; every other image is a study of its own (or every folder is, if the
user says so). Images of two patients are never one study. A study is reported from its frontal
image: PA before AP before unknown view; of two takes of a view the later one. Images named by a
rejection note (Key Object Selection) are never used, quality control images only if there is
nothing else. Laterals and images of unknown view are further views; the rest (takes, thumbnails) is
recorded but not used.

No identifier of a header ever becomes a name. A DICOM study is named by the SHA-256 of its
StudyInstanceUID. Other studies are named by the user's own path; if that contains an identifier of
the header, the image is named by its study, and a study without StudyInstanceUID by its content.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from encoders.base import View
from encoders.image_io import read_image_info
from encoders.images.image_info import ImageFormat, ImageInfo
from encoders.images.raw_image import ImageReadError
from rag.batch.inputs import IMAGE_SUFFIXES, BatchStudy
from rag.batch.manifests import ListedImage
from rag.index.ids import Exclusions
from rag.priors import NO_PRIOR, Prior, newest_before
from rag.screening.header import screen_header
from rag.study import pseudonym

logger = logging.getLogger(__name__)

ReadHeader = Callable[[Path], ImageInfo]
"""Raises `ImageReadError`."""

_READER_THREADS = 4
_THUMBNAIL_FACTOR = 2
"""An image with so many times fewer pixels than the largest is a thumbnail, not a take."""

_VIEW_RANK = {View.PA: 0, View.AP: 1, View.UNKNOWN: 2, View.LATERAL: 3}


@dataclass(frozen=True, slots=True)
class _InspectedImage:
    """An image and its header, if that can be read."""

    image: ListedImage
    info: ImageInfo
    readable: bool = True

    @property
    def is_lateral(self) -> bool:
        if self.image.frontal is not None:
            return not self.image.frontal
        return self.info.view is View.LATERAL

    @property
    def has_unknown_view(self) -> bool:
        """Neither list nor header states its view."""
        return self.image.frontal is None and self.info.view is View.UNKNOWN

    @property
    def is_usable(self) -> bool:
        """It can be read, and its header does not speak against a chest X-ray."""
        return self.readable and not screen_header(self.info).refusal


@dataclass(frozen=True, slots=True)
class _GroupKey:
    """What the images of one study share: a kind of id, its value, and the patient."""

    kind: str
    value: str
    patient: str = ""


def group_images(
    images: Sequence[ListedImage],
    *,
    by_folder: bool = False,
    read: ReadHeader = read_image_info,
) -> tuple[list[BatchStudy], list[str]]:
    """Group images into studies; every image is in at most one.

    Args:
        images: of `rag.batch.inputs.list_images`. Key Object Selections among them are not images.
        by_folder: PNG and JPEG files of one folder are one study.
        read: the header of a file.

    Returns:
        The studies, sorted by study id; and problems: studies left out because all their images
        were rejected, and StudyInstanceUIDs that several patients share.
    """
    inspected = _read_headers(images, read)
    rejected = frozenset[str]().union(*(one.info.rejected_uids for one in inspected)) - {""}
    groups: dict[_GroupKey, list[_InspectedImage]] = {}
    for one in inspected:
        if not one.info.is_key_object_selection:
            groups.setdefault(_group_key(one, by_folder=by_folder), []).append(one)
    groups, problems = _split_by_patient(groups)
    studies = []
    for key, group in groups.items():
        accepted = [one for one in group if one.info.instance_uid not in rejected]
        rejects = tuple(one.image.path for one in group if one.info.instance_uid in rejected)
        if accepted:
            studies.append(replace(_make_study(key, accepted), rejected=rejects))
        else:
            study_id = _make_study(key, group).study_id
            problems.append(f"every image of the study {study_id} was rejected: there is no draft")
    infos = {one.image.path: one.info for one in inspected if one.readable}
    studies = list(_with_priors(list(_with_unique_ids(studies)), infos))
    return sorted(studies, key=lambda study: study.study_id), problems


def _read_headers(images: Sequence[ListedImage], read: ReadHeader) -> list[_InspectedImage]:
    def inspect(image: ListedImage) -> _InspectedImage:
        try:
            return _InspectedImage(image, read(image.path))
        except ImageReadError as error:
            logger.debug("a header cannot be read: %s", error.reason)
            return _InspectedImage(image, ImageInfo(), readable=False)  # its study will say why

    with ThreadPoolExecutor(_READER_THREADS) as pool:
        return list(pool.map(inspect, images))


def _group_key(inspected: _InspectedImage, *, by_folder: bool) -> _GroupKey:
    image, info = inspected.image, inspected.info
    if image.study_id:
        return _GroupKey("list", image.study_id)
    if info.format is ImageFormat.DICOM:
        if info.study_uid:
            return _GroupKey("uid", info.study_uid, info.patient_id)
        if info.accession:
            patient = info.patient_id or f"{info.patient_name}\0{info.birth_date}"
            return _GroupKey("accession", info.accession, patient)
    folder = str(PurePosixPath(image.name).parent)
    if by_folder and folder != "." and info.format is not ImageFormat.DICOM:
        return _GroupKey("folder", folder)
    return _GroupKey("image", image.name)


def _split_by_patient(
    groups: Mapping[_GroupKey, list[_InspectedImage]],
) -> tuple[dict[_GroupKey, list[_InspectedImage]], list[str]]:
    """Groups of one patient each, and a problem for each StudyInstanceUID that several share.

    Images of a StudyInstanceUID without a patient id join those of its only patient.
    """
    patients: defaultdict[str, set[str]] = defaultdict(set)
    for key in groups:
        if key.kind == "uid":
            patients[key.value] |= {key.patient} - {""}
    split: defaultdict[_GroupKey, list[_InspectedImage]] = defaultdict(list)
    for key, group in groups.items():
        uid_suffices = key.kind == "uid" and len(patients[key.value]) <= 1
        split[replace(key, patient="") if uid_suffices else key] += group
    problems = [
        f"images of {len(sharing)} patients have the StudyInstanceUID of {pseudonym(uid)}: they "
        "are kept apart"
        for uid, sharing in patients.items()
        if len(sharing) > 1
    ]
    return split, problems


def _make_study(key: _GroupKey, group: Sequence[_InspectedImage]) -> BatchStudy:
    kind, value = key.kind, key.value
    largest = max(one.info.pixel_count for one in group)
    chosen, *others = sorted(group, key=lambda one: _rank(one, largest))
    other_views, unused = list[Path](), list[Path]()
    for one in others:
        (other_views if _is_further_view(one, largest) else unused).append(one.image.path)
    identifiers = frozenset[str]().union(*(one.info.identifiers for one in group))
    listed = [value] if kind == "list" else []
    name, study_id = chosen.image.name, value
    if kind == "uid":
        study_id = pseudonym(f"{value} {key.patient}" if key.patient else value)
    if any(identifier in name.lower() for identifier in identifiers):
        study_id = study_id if kind in ("uid", "list") else _content_name(chosen.image.path)
        name = f"{study_id}/1"
    elif kind in ("accession", "image"):
        study_id = name
    return BatchStudy(
        study_id=study_id,
        source=chosen.image.path,
        name=name,
        other_views=tuple(other_views),
        unused=tuple(unused),
        indication=next((one.image.indication for one in group if one.image.indication), ""),
        exclude=Exclusions(patients=frozenset(one.image.patient_id for one in group) - {""}),
        aliases=(*listed, *(one.image.name for one in group)),
        prior=next((one.image.prior for one in group if one.image.prior), NO_PRIOR),
    )


def _is_further_view(one: _InspectedImage, largest: int) -> bool:
    """Whether it is or may be a lateral: not a take, thumbnail, raw or quality control image."""
    info = one.info
    is_original = not (
        _is_thumbnail(info, largest) or info.is_for_processing or info.is_quality_control
    )
    return one.is_usable and (one.is_lateral or (one.has_unknown_view and is_original))


def _is_thumbnail(info: ImageInfo, largest: int) -> bool:
    return info.pixel_count * _THUMBNAIL_FACTOR < largest


def _content_name(path: Path) -> str:
    """A name for a study that neither its path nor its header may name."""
    with path.open("rb") as file:
        return f"image-{hashlib.file_digest(file, 'sha256').hexdigest()[:20]}"


def _rank(one: _InspectedImage, largest: int) -> tuple[object, ...]:
    """Sort key: the first image of a study is reported from."""
    info = one.info
    listed_view = {True: 0, None: 1, False: 2}[one.image.frontal]
    return (
        not one.image.chosen,
        one.is_lateral,
        not one.is_usable,
        info.is_quality_control,
        listed_view,
        _VIEW_RANK[info.view],
        info.is_for_processing,
        _is_thumbnail(info, largest),
        *_recency_rank(info),
        one.image.name,
    )


def _recency_rank(info: ImageInfo) -> tuple[object, ...]:
    """The later take first; images of one exposure, and of unknown view, in their own order.

    Two images of unknown view need not be takes of the same: often the second is the lateral.
    """
    series, instance = info.order
    if info.view is View.UNKNOWN:
        return 0, -info.pixel_count, series, instance
    if info.acquired_at:
        return -int(info.acquired_at), -info.pixel_count, series, instance
    return 0, 0, -series, -instance


def _with_unique_ids(studies: Sequence[BatchStudy]) -> Iterator[BatchStudy]:
    """Drop the suffix of studies named by an image if the id stays unique; number equal ids.

    Only images without a name that are equal byte for byte have equal ids.
    """
    stems = Counter(_stem(study) for study in studies)
    counts: Counter[str] = Counter()
    for study in studies:
        stem = _stem(study)
        study_id = stem if stems[stem] == 1 else study.study_id
        counts[study_id] += 1
        if counts[study_id] > 1:
            study_id = f"{study_id}-{counts[study_id]}"
        yield replace(study, study_id=study_id)


def _stem(study: BatchStudy) -> str:
    if study.study_id != study.name:
        return study.study_id
    path = PurePosixPath(study.study_id)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else study.study_id


def _with_priors(
    studies: Sequence[BatchStudy], infos: Mapping[Path, ImageInfo]
) -> Iterator[BatchStudy]:
    """Each study with its patient's newest earlier study, unless a list names another prior.

    The prior's files are its image and its structured reports, whose headers are in ``infos`` too.
    """
    by_patient: defaultdict[str, list[BatchStudy]] = defaultdict(list)
    for study in studies:
        if study.source in infos:
            by_patient[infos[study.source].patient_id].append(study)
    reports: defaultdict[str, list[Path]] = defaultdict(list)
    for path, info in infos.items():
        if info.modality == "SR":
            reports[info.study_uid].append(path)
    for study in studies:
        current = infos.get(study.source)
        if current is None or study.prior or not current.patient_id:
            yield study
            continue
        sources = [other.source for other in by_patient[current.patient_id]]
        uid = newest_before(current, [infos[source] for source in sources])
        files = [source for source in sources if uid and infos[source].study_uid == uid]
        files += reports[uid] if uid else []
        yield replace(study, prior=Prior(files=tuple(dict.fromkeys(files))))
