"""Synthetic collections of any size, and their indexes, for `retrieval.py`.

Vectors resemble Lite0's on Open-I (256 dimensions, 2 450 distinct training texts, 294 validation
images): 29 % of the texts' variance is in the first direction and 70 % in ten, and the nearest
neighbour is at a cosine of 0.79; image vectors share a direction (their mean has norm 0.45, texts'
0.06), and the nearest text is at 0.42; one text in eleven equals that of another report. Patients
have four similar studies. No sentence is from a real report.
"""

import json
import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.corpus.records import text_hash
from rag.index import ReportIndex
from rag.index.content import IndexContent
from rag.index.embedding import EmbeddingCache
from rag.index.info import write_lock
from rag.index.version import new_index_info, write_version
from rag.schema import ReportRecord, Section, Span

STUDIES_PER_PATIENT = 4
_REPEATED_SHARE, _COMMON_TEXTS = 0.09, 500
_SPECTRUM_EXPONENT = 1.3
_CLUSTER_WEIGHT, _MODALITY_GAP, _REPORT_WEIGHT = 0.8, 0.45, 0.5
_BATCH_SIZE = 50_000
_LOCATIONS = ("right apex", "left apex", "right base", "left base", "lingula", "right hilum")
_FINDINGS = ("nodule", "opacity", "scar", "calcified granuloma", "band of atelectasis", "effusion")
_SENTENCES = [
    f"{start} {finding} {middle} the {location}."
    for location in _LOCATIONS
    for finding in _FINDINGS
    for start, middle in (("There is a small", "at"), ("No", "is seen in"))
]


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticData:
    """Report and image vectors.

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


def make_data(n: int, *, dim: int, queries: int, seed: int = 0) -> SyntheticData:
    """Sample ``n`` reports, and images of ``queries`` of their patients."""
    rng = np.random.default_rng(seed)
    scales = (np.arange(1, dim + 1) ** (-_SPECTRUM_EXPONENT / 2)).astype(np.float32)
    clusters = 2 * int(n**0.5)
    centres = _normalise(rng.standard_normal((clusters, dim), np.float32) * scales)
    weights = np.arange(1, clusters + 1) ** -0.7
    patients = -(-n // STUDIES_PER_PATIENT)
    cluster_of = rng.choice(clusters, patients, p=weights / weights.sum())

    def report_vectors(patient: NDArray[np.int64]) -> NDArray[np.float32]:
        individual = _normalise(rng.standard_normal((len(patient), dim), np.float32) * scales)
        return _normalise(
            _CLUSTER_WEIGHT * centres[cluster_of[patient]]
            + (1 - _CLUSTER_WEIGHT**2) ** 0.5 * individual
        )

    vectors = np.empty((n, dim), np.float32)
    for start in range(0, n, _BATCH_SIZE):
        rows = np.arange(start, min(n, start + _BATCH_SIZE))
        vectors[rows] = report_vectors(rows // STUDIES_PER_PATIENT)
    text_of = np.arange(n)
    repeated = np.flatnonzero(rng.random(n) < _REPEATED_SHARE)
    repeated = repeated[repeated > _COMMON_TEXTS]
    common = np.arange(1, _COMMON_TEXTS + 1) ** -1.0
    text_of[repeated] = rng.choice(_COMMON_TEXTS, len(repeated), p=common / common.sum())
    vectors[repeated] = vectors[text_of[repeated]]
    patient_of = rng.choice(patients, queries, replace=False)
    direction = _normalise(rng.standard_normal((1, dim), np.float32))
    noise = _normalise(rng.standard_normal((queries, dim), np.float32))
    rest = (1 - _MODALITY_GAP**2 - _REPORT_WEIGHT**2) ** 0.5
    images = _normalise(
        _MODALITY_GAP * direction + _REPORT_WEIGHT * report_vectors(patient_of) + rest * noise
    )
    return SyntheticData(vectors, text_of, images, patient_of)


class SyntheticReports(Sequence[ReportRecord]):
    """Reports generated on access, so that a million needs no memory."""

    def __init__(self, text_of: NDArray[np.int64]) -> None:
        self._text_of = text_of

    def __len__(self) -> int:
        return len(self._text_of)

    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if row >= len(self):
            raise IndexError(row)
        sentences = random.Random(int(self._text_of[row])).sample(_SENTENCES, 9)  # noqa: S311
        findings, impression = sentences[:7], sentences[7:]
        return ReportRecord(
            report_id=f"r{row:08d}",
            study_id=f"s{row:08d}",
            patient_id=patient_id(row // STUDIES_PER_PATIENT),
            findings=" ".join(findings),
            impression=" ".join(impression),
            labels=("made up",),
            sentences=(
                *_spans(Section.FINDINGS, findings),
                *_spans(Section.IMPRESSION, impression),
            ),
            collection="made up",
        )


def patient_id(number: int) -> str:
    """Id of a patient."""
    return f"p{number:08d}"


def row_of(report_id: str) -> int:
    """Row of a report."""
    return int(report_id[1:])


def _spans(section: Section, sentences: Sequence[str]) -> list[Span]:
    spans, start = [], 0
    for sentence in sentences:
        spans.append(Span(section, start, start + len(sentence)))
        start += len(sentence) + 1
    return spans


def _normalise(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


INDEXED_IMAGES = 32  # the last images, stored in the index for `verify`


@dataclass(frozen=True, slots=True)
class SyntheticEncoder:
    """An encoder's id and dimension; embeds nothing."""

    dim: int
    encoder_id: str = "made-up"
    preprocess_hash: str = "0"

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Never called; marks this as an encoder of texts."""
        raise NotImplementedError(texts)


def distinct_text_rows(data: SyntheticData) -> NDArray[np.int64]:
    """First row of each distinct text, ascending."""
    return np.unique(data.text_of)


def build_index(folder: Path, data: SyntheticData) -> list[float]:
    """Build the index unless it exists; wall and CPU seconds of the build."""
    timing_file = folder / "built.json"
    if not timing_file.exists():
        started, cpu_started = time.perf_counter(), time.process_time()
        _write_index(folder, data)
        taken = [time.perf_counter() - started, time.process_time() - cpu_started]
        timing_file.write_text(json.dumps(taken))
    seconds: list[float] = json.loads(timing_file.read_text())
    return seconds


def _write_index(folder: Path, data: SyntheticData) -> None:
    encoder, directory = SyntheticEncoder(data.vectors.shape[1]), folder / "index"
    directory.mkdir(parents=True, exist_ok=True)
    reports = SyntheticReports(data.text_of)
    images = {f"{i:032x}": (reports[i].report_id,) for i in range(INDEXED_IMAGES)}
    with write_lock(directory):
        cache = EmbeddingCache(directory, encoder)
        rows = distinct_text_rows(data)
        for start in range(0, len(rows), 10_000):
            batch = rows[start : start + 10_000]
            keys = [text_hash(reports[int(row)].text) for row in batch]
            cache.append(keys, data.vectors[batch])
        cache.append(list(images), data.images[-INDEXED_IMAGES:])
        content = IndexContent(reports, (), (), store_id="made-up", encoder=encoder, images=images)
        info = new_index_info(content)
        write_version(directory, info, content, cache, url="", progress=lambda *_: None)


def print_index_costs(folder: Path, built: list[float], images: NDArray[np.float32]) -> None:
    """Print the costs of building, opening and holding the index."""
    print(f"\nBuilding took {built[0]:.0f} s, {built[1]:.0f} s of CPU time.")
    size = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        costs = fresh.apply(_measure_opening, (folder / "index", images))
    print(
        f"\n| disk MB | memory MB | mapped MB | open s | first query s |\n{'|---' * 5}|\n"
        f"| {size / 1e6:.0f} | {costs['own']:.0f} | {costs['mapped']:.0f} | {costs['open']:.2f} "
        f"| {costs['first']:.2f} |"
    )


def _measure_opening(index: Path, images: NDArray[np.float32]) -> dict[str, float]:
    """Seconds and megabytes of opening the index and a few queries, in a fresh process."""
    import chromadb  # noqa: F401, PLC0415 - its own size is not the index's

    before, started = _memory_mb(), time.perf_counter()
    with ReportIndex(index) as opened:
        opened_at = time.perf_counter()
        opened.query(images[0], 10)
        answered_at = time.perf_counter()
        for image in images[1:]:
            opened.query(image, 10)
        grown = {name: size - before[name] for name, size in _memory_mb().items()}
    return {"open": opened_at - started, "first": answered_at - opened_at, **grown}


def _memory_mb() -> dict[str, float]:
    """Resident megabytes of this process: anonymous, and of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {"own": int(sizes["RssAnon"]) / 1e3, "mapped": int(sizes["RssFile"]) / 1e3}
