"""Films -> studies: which belong together, which one is reported from, what the study is called.

Films of a list belong together by its ``study_id``; DICOM films by StudyInstanceUID, without one by
AccessionNumber; every other film is a study of its own (or every folder is one, if the user says
so). Of a study's films the frontal one is reported from: PA before AP before one without a view.
Laterals are further views; what is left over is named, not used.

Names: no identifier of a header ever becomes one. A DICOM study is called ``dcm-`` and 20 digits
of the SHA-256 of its StudyInstanceUID: the same everywhere, every time. Other studies bear the
user's own path. Where a path holds what the header says is an identifier, it is not written: the
film is then called after its study, and a study without StudyInstanceUID after the film's content.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from encoders.base import View
from encoders.film import ImageReadError
from encoders.film_facts import FilmFacts, FilmFormat, read_facts
from rag.batch.sources import FILM_SUFFIXES, Film
from rag.refusal import judge_header

logger = logging.getLogger(__name__)

_READERS = 4  # threads that wait for the disk
_RANK = {View.PA: 0, View.AP: 1, View.UNKNOWN: 2, View.LATERAL: 3}


@dataclass(frozen=True, slots=True)
class BatchStudy:
    """One study of a batch.

    Attributes:
        study_id: what its prediction is called.
        film: the one to report from.
        name: what predictions call that film.
        further: laterals.
        unused: films of the study that are neither.
        indication: why the films were taken.
        patient_ids: never to be retrieved, as a list says them.
        paths: all films as the input names them, for finding studies that they name.
    """

    study_id: str
    film: Path
    name: str
    further: tuple[Path, ...] = ()
    unused: tuple[Path, ...] = ()
    indication: str = ""
    patient_ids: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A film with what its header says; None where that cannot be read."""

    film: Film
    facts: FilmFacts | None

    @property
    def lateral(self) -> bool:
        if self.film.frontal is not None:
            return not self.film.frontal
        return self.facts is not None and self.facts.view is View.LATERAL


def group_films(films: Sequence[Film], *, by_folder: bool = False) -> list[BatchStudy]:
    """The studies of some films, sorted by study id; every film is in exactly one.

    Args:
        films: as `rag.batch.sources.list_films` found them.
        by_folder: PNG and JPEG files of one folder are one study.
    """
    groups: dict[tuple[str, str], list[_Seen]] = {}
    for seen in _looked_at(films):
        groups.setdefault(_key(seen, by_folder=by_folder), []).append(seen)
    studies = [_study(key, group) for key, group in groups.items()]
    return sorted(_without_suffixes(studies), key=lambda study: study.study_id)


def pseudonym(study_uid: str) -> str:
    """What a DICOM study is called. Whoever has the UID can find the study, nobody else."""
    return "dcm-" + hashlib.sha256(f"cxr-rag study {study_uid}".encode()).hexdigest()[:20]


def _looked_at(films: Sequence[Film]) -> Iterator[_Seen]:
    def look(film: Film) -> _Seen:
        try:
            return _Seen(film, read_facts(film.path))
        except ImageReadError as error:
            logger.debug("a header cannot be read: %s", error.reason)
            return _Seen(film, None)  # the study will fail, with the reason, when it is its turn

    with ThreadPoolExecutor(_READERS) as pool:
        yield from pool.map(look, films)


def _key(seen: _Seen, *, by_folder: bool) -> tuple[str, str]:
    """What films of one study have in common: how it was found, and the value."""
    film, facts = seen.film, seen.facts
    if film.study_id:
        return "list", film.study_id
    if facts is not None and facts.format is FilmFormat.DICOM:
        study_uid, accession = facts.study_uid, facts.accession
        if study_uid:
            return "uid", study_uid
        if accession:
            return "accession", accession
    folder = str(PurePosixPath(film.name).parent)
    if by_folder and folder != "." and (facts is None or facts.format is not FilmFormat.DICOM):
        return "folder", folder
    return "film", film.name


def _study(key: tuple[str, str], group: Sequence[_Seen]) -> BatchStudy:
    kind, value = key
    ranked = sorted(group, key=_rank)
    chosen, others = ranked[0], ranked[1:]
    further = tuple(one.film.path for one in others if one.lateral and _usable(one))
    secrets = frozenset[str]().union(*(one.facts.names for one in group if one.facts))
    shown = chosen.film.name
    study_id = pseudonym(value) if kind == "uid" else value
    if any(secret in shown.lower() for secret in secrets):
        study_id = study_id if kind in ("uid", "list") else _by_content(chosen.film.path)
        shown = f"{study_id}/1"
    elif kind in ("accession", "film"):
        study_id = shown
    return BatchStudy(
        study_id=study_id,
        film=chosen.film.path,
        name=shown,
        further=further,
        unused=tuple(one.film.path for one in others if one.film.path not in further),
        indication=next((one.film.indication for one in group if one.film.indication), ""),
        patient_ids=frozenset(one.film.patient_id for one in group if one.film.patient_id),
        paths=(*([value] if kind == "list" else []), *(one.film.name for one in group)),
    )


def _by_content(path: Path) -> str:
    """A name for a study of which neither path nor header may be named."""
    with path.open("rb") as file:
        return f"film-{hashlib.file_digest(file, 'sha256').hexdigest()[:20]}"


def _rank(seen: _Seen) -> tuple[object, ...]:
    """Smallest first: the film to report from."""
    facts = seen.facts or FilmFacts()
    stated = 0 if seen.film.frontal else 1 if seen.film.frontal is None else 2
    return (
        not seen.film.chosen,
        seen.lateral,
        not _usable(seen),
        stated,
        _RANK[facts.view],
        facts.for_processing,
        -facts.pixels,
        facts.order,
        seen.film.name,
    )


def _usable(seen: _Seen) -> bool:
    return seen.facts is not None and judge_header(seen.facts).refusal is None


def _without_suffixes(studies: Sequence[BatchStudy]) -> Iterator[BatchStudy]:
    """Studies called after a film lose its suffix where that leaves the name unique.

    Of two films without a name of their own that are equal byte for byte, the second gets a number.
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
    return str(path.with_suffix("")) if path.suffix.lower() in FILM_SUFFIXES else study.study_id
