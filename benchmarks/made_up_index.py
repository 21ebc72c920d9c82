"""Made-up collections of any size, and their indexes, for `retrieval.py`.

Drawn after what Lite0 makes of Open-I (256 dimensions, 2 450 distinct training texts, 294
validation images), measured once: text vectors have a falling spectrum (29 % of the variance in
the first direction, 70 % in ten), a nearest neighbour at a cosine of 0.79; image vectors share a
direction that texts do not have (their mean has norm 0.45, texts' 0.06) and meet the nearest text
at 0.42; one text in eleven stands word for word in another report. Patients have four studies here,
of like content. No sentence is of a real report.
"""

import json
import multiprocessing
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from rag.corpus.records import text_hash
from rag.index import ReportIndex
from rag.index.content import IndexContent
from rag.index.embedding import EmbeddingCache
from rag.index.info import write_lock
from rag.index.version import new_index_info, write_version
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


KEPT = 32  # images kept in the index, which `verify` asks with: the last ones drawn


@dataclass(frozen=True, slots=True)
class MadeUpEncoder:
    """Says who made the vectors; embeds nothing."""

    dim: int
    encoder_id: str = "made-up"
    preprocess_hash: str = "0"

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Never called; by having it, it is one that embeds texts."""
        raise NotImplementedError(texts)


def texts_of(drawn: Drawn) -> NDArray[np.int64]:
    """The first report of each text, ascending."""
    return np.unique(drawn.text_of)


def build(folder: Path, drawn: Drawn) -> list[float]:
    """Make the index if it is not there; seconds it took, of the clock and of the processor."""
    note = folder / "built.json"
    if not note.exists():
        started, busy = time.perf_counter(), time.process_time()
        _build_index(folder, drawn)
        note.write_text(json.dumps([time.perf_counter() - started, time.process_time() - busy]))
    seconds: list[float] = json.loads(note.read_text())
    return seconds


def _build_index(folder: Path, drawn: Drawn) -> None:
    encoder, directory = MadeUpEncoder(drawn.vectors.shape[1]), folder / "index"
    directory.mkdir(parents=True, exist_ok=True)
    reports = Reports(drawn.text_of)
    images = {f"{number:032x}": (reports[number].report_id,) for number in range(KEPT)}
    with write_lock(directory):
        cache = EmbeddingCache(directory, encoder)
        rows = texts_of(drawn)
        for start in range(0, len(rows), 10_000):
            part = rows[start : start + 10_000]
            keys = [text_hash(reports[int(row)].text) for row in part]
            cache.append(keys, drawn.vectors[part])
        cache.append(list(images), drawn.images[-KEPT:])
        content = IndexContent(reports, (), (), store_id="made-up", encoder=encoder, images=images)
        info = new_index_info(content)
        write_version(directory, info, content, cache, url="", progress=lambda *_: None)


def print_costs(folder: Path, built: list[float], images: NDArray[np.float32]) -> None:
    """Print what building, opening and holding the index costs."""
    print(f"\nBuilding took {built[0]:.0f} s, {built[1]:.0f} s of the processor.")
    size = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        found = fresh.apply(_weigh, (folder / "index", images))
    print(
        f"\n| disk MB | memory MB | mapped MB | open s | first query s |\n{'|---' * 5}|\n"
        f"| {size / 1e6:.0f} | {found['own']:.0f} | {found['mapped']:.0f} | {found['open']:.2f} "
        f"| {found['first']:.2f} |"
    )


def _weigh(index: Path, images: NDArray[np.float32]) -> dict[str, float]:
    """Open the index and ask it a few times; seconds and megabytes that took."""
    import chromadb  # noqa: F401, PLC0415 - its own size is not the index's

    before, started = _memory(), time.perf_counter()
    with ReportIndex(index) as opened:
        ready = time.perf_counter()
        opened.query(images[0], 10)
        first = time.perf_counter()
        for image in images[1:]:
            opened.query(image, 10)
        grown = {name: size - before[name] for name, size in _memory().items()}
    return {"open": ready - started, "first": first - ready, **grown}


def _memory() -> dict[str, float]:
    """Megabytes of this process: its own, and the pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {"own": int(found["RssAnon"]) / 1e3, "mapped": int(found["RssFile"]) / 1e3}
