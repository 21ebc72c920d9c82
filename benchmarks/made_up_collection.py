"""A made-up collection of any size for `retrieval.py`: reports, their vectors, images that ask.

Drawn after what the shipped encoder makes of Open-I (256 dimensions, 2 450 distinct training texts,
294 validation images), measured once: text vectors have a falling spectrum (29 % of the variance in
the first direction, 70 % in ten), a nearest neighbour at a cosine of 0.79; image vectors share a
direction that texts do not have (their mean has norm 0.45, texts' 0.06) and meet the nearest text
at 0.42; one text in eleven stands word for word in another report. Patients have four studies here,
of like content. No sentence is of a real report.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from rag.schema import ReportRecord, Section, Span

STUDIES_A_PATIENT = 4
_REPEATED, _COMMON = 0.09, 500
_SPECTRUM, _CENTRE, _GAP, _OWN = 1.3, 0.8, 0.45, 0.5
_CHUNK = 50_000
_WHERE = ("right apex", "left apex", "right base", "left base", "lingula", "right hilum")
_WHAT = ("nodule", "opacity", "scar", "calcified granuloma", "band of atelectasis", "effusion")
_SENTENCES = [
    f"{start} {what} {middle} the {where}."
    for where in _WHERE
    for what in _WHAT
    for start, middle in (("There is a small", "at"), ("No", "is seen in"))
]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Vectors of a collection and of images.

    Attributes:
        vectors: float32 [n, dim], rows of norm 1; equal texts have equal rows.
        text_of: int64 [n], the report whose text each report has.
        images: float32 [queries, dim], rows of norm 1.
        patient_of: int64 [queries], the patient of each image.
    """

    vectors: NDArray[np.float32]
    text_of: NDArray[np.int64]
    images: NDArray[np.float32]
    patient_of: NDArray[np.int64]


def draw(n: int, *, dim: int, queries: int, seed: int = 0) -> Drawn:
    """Draw a collection of ``n`` reports and images of ``queries`` of its patients."""
    rng = np.random.default_rng(seed)
    spread = (np.arange(1, dim + 1) ** (-_SPECTRUM / 2)).astype(np.float32)
    count = 2 * int(n**0.5)
    centres = _units(rng.standard_normal((count, dim), np.float32) * spread)
    weights = np.arange(1, count + 1) ** -0.7
    patients = -(-n // STUDIES_A_PATIENT)
    cluster_of = rng.choice(count, patients, p=weights / weights.sum())

    def reports_of(patient: NDArray[np.int64]) -> NDArray[np.float32]:
        own = _units(rng.standard_normal((len(patient), dim), np.float32) * spread)
        return _units(_CENTRE * centres[cluster_of[patient]] + (1 - _CENTRE**2) ** 0.5 * own)

    vectors = np.empty((n, dim), np.float32)
    for start in range(0, n, _CHUNK):
        rows = np.arange(start, min(n, start + _CHUNK))
        vectors[rows] = reports_of(rows // STUDIES_A_PATIENT)
    text_of = np.arange(n)
    repeated = np.flatnonzero(rng.random(n) < _REPEATED)
    repeated = repeated[repeated > _COMMON]
    common = np.arange(1, _COMMON + 1) ** -1.0
    text_of[repeated] = rng.choice(_COMMON, len(repeated), p=common / common.sum())
    vectors[repeated] = vectors[text_of[repeated]]
    patient_of = rng.choice(patients, queries, replace=False)
    direction = _units(rng.standard_normal((1, dim), np.float32))
    noise = _units(rng.standard_normal((queries, dim), np.float32))
    rest = (1 - _GAP**2 - _OWN**2) ** 0.5
    images = _units(_GAP * direction + _OWN * reports_of(patient_of) + rest * noise)
    return Drawn(vectors, text_of, images, patient_of)


class Reports(Sequence[ReportRecord]):
    """The reports of a collection, made when asked for, so that a million needs no memory."""

    def __init__(self, text_of: NDArray[np.int64]) -> None:
        self._text_of = text_of

    def __len__(self) -> int:
        return len(self._text_of)

    @overload
    def __getitem__(self, row: int) -> ReportRecord: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[ReportRecord]: ...
    def __getitem__(self, row: int | slice) -> ReportRecord | Sequence[ReportRecord]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        if row >= len(self):
            raise IndexError(row)
        chosen = random.Random(int(self._text_of[row])).sample(_SENTENCES, 9)  # noqa: S311
        findings, impression = _section(Section.FINDINGS, chosen[:7]), chosen[7:]
        after = _section(Section.IMPRESSION, impression)
        return ReportRecord(
            report_id=f"r{row:08d}",
            study_id=f"s{row:08d}",
            patient_id=patient_id(row // STUDIES_A_PATIENT),
            findings=" ".join(chosen[:7]),
            impression=" ".join(impression),
            labels=("made up",),
            sentences=(*findings, *after),
            collection="made up",
        )


def patient_id(number: int) -> str:
    """Name of a patient."""
    return f"p{number:08d}"


def row_of(report_id: str) -> int:
    """Row of a report in the collection's vectors."""
    return int(report_id[1:])


def _section(section: Section, sentences: Sequence[str]) -> list[Span]:
    spans, start = [], 0
    for sentence in sentences:
        spans.append(Span(section, start, start + len(sentence)))
        start += len(sentence) + 1
    return spans


def _units(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
