"""Which study of a batch is the prior of which: by PatientID and StudyDate."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from encoders.images.image_info import ImageInfo
from rag.priors import Prior, newest_before

if TYPE_CHECKING:
    from rag.batch.grouping import BatchStudy


def with_priors(
    studies: Sequence["BatchStudy"], infos: Mapping[Path, ImageInfo]
) -> Iterator["BatchStudy"]:
    """Each study with the newest earlier one of its patient, where no list names another.

    Args:
        studies: of the batch.
        infos: headers of all files, those of structured reports too.

    Yields:
        The studies in their order. What comes of an earlier one is its image and its reports.
    """
    of_patient: defaultdict[str, list[BatchStudy]] = defaultdict(list)
    for study in studies:
        if study.image in infos:
            of_patient[infos[study.image].identity.patient_id].append(study)
    reports: defaultdict[str, list[Path]] = defaultdict(list)
    for path, info in infos.items():
        if info.modality == "SR":
            reports[info.study_uid].append(path)
    for study in studies:
        current = infos.get(study.image)
        if current is None or study.prior:
            yield study
            continue
        others = of_patient[current.identity.patient_id]
        uid = newest_before(current, [infos[other.image] for other in others])
        images = [other.image for other in others if uid and infos[other.image].study_uid == uid]
        files = dict.fromkeys((*images, *(reports[uid] if uid else ())))
        yield replace(study, prior=Prior(files=tuple(files)))
