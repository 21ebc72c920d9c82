"""Vectors beside the reports' own: of their sentences, and of the images they were written about.

Two files of an edition for each kind: ``<kind>.npy``, float32 [V, dim], unit rows, sorted by key;
and ``<kind>.jsonl``, a line a row: its key, and the reports it stands for. A neighbour among them
is a hit of its reports. Searched exactly, a row after the other: no graph is kept of them. Knows
neither encoders nor where images come from.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.errors import StoreError
from rag.store.catalogue import Catalogue, Edition, Rows
from rag.store.files import REINDEX_HINT, Manifest


class Kind(StrEnum):
    """What the vectors are of."""

    SENTENCES = "sentences"
    IMAGES = "images"

    @property
    def files(self) -> tuple[str, str]:
        """Names of its vectors and of its rows' reports, inside an edition."""
        return f"{self}.npy", f"{self}.jsonl"


_CURES = {
    Kind.SENTENCES: "run `cxr-rag index` again with the same settings",
    Kind.IMAGES: "run `cxr-rag index` again with --images",
}
_COUNTED = {Kind.SENTENCES: 3, Kind.IMAGES: 1}
"""How many of a report's vectors decide how near it is: the mean of the nearest so many.

One sentence is too few: the nearest reports are then those that happen to hold a sentence that
suits every image (docs/retrieval.md has the measure). A report has one or two frontal images.
"""


@dataclass(frozen=True, slots=True, eq=False)
class SideVectors:
    """Vectors of one kind.

    Attributes:
        reports: key -> ids of the reports it stands for, sorted; keys in order, none without one.
        vectors: float32 [V, dim], a row a key.
    """

    reports: dict[str, tuple[str, ...]]
    vectors: NDArray[np.float32]

    def of(self, report_ids: Iterable[str]) -> "SideVectors":
        """What is left for some reports."""
        kept = frozenset(report_ids)
        left = {
            key: tuple(name for name in names if name in kept)
            for key, names in self.reports.items()
        }
        rows = [row for row, names in enumerate(left.values()) if names]
        return SideVectors({key: names for key, names in left.items() if names}, self.vectors[rows])


def has_side(manifest: Manifest, kind: Kind) -> bool:
    """Whether an edition has vectors of this kind."""
    return kind.files[0] in manifest.sha256


def write_side(edition: Path, kind: Kind, side: SideVectors) -> None:
    """Write both files."""
    vectors, rows = (edition / name for name in kind.files)
    with vectors.open("wb") as file:
        np.save(file, np.asarray(side.vectors, "<f4"))
    with rows.open("w", encoding="utf-8", newline="\n") as lines:
        for key, reports in side.reports.items():
            line = {"key": key, "reports": list(reports)}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_side(edition: Edition, kind: Kind) -> SideVectors | None:
    """Both files; None if the edition has none of this kind.

    Raises:
        StoreError: a file is missing, damaged or of another shape, or names an unknown report.
    """
    if not has_side(edition.manifest, kind):
        return None
    vectors, rows = (edition.path / name for name in kind.files)
    try:
        found = np.load(vectors, allow_pickle=False)
        lines = map(json.loads, rows.read_text(encoding="utf-8").splitlines())
        reports = {line["key"]: tuple(line["reports"]) for line in lines}
        known = all(
            names and all(name in edition.catalogue.row_of for name in names)
            for names in reports.values()
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{vectors} or {rows.name} is damaged ({error!r}): {REINDEX_HINT}"
        ) from error
    if not known or found.shape != (len(reports), edition.manifest.dim) or found.dtype != "f4":
        raise StoreError(
            f"{vectors} is {found.dtype} {found.shape} and {rows.name} has {len(reports)} lines, "
            f"or names a report that is not here: {REINDEX_HINT}"
        )
    return SideVectors(reports, found)


def read_sides(edition: Edition) -> dict[Kind, SideVectors]:
    """What an edition has beside the reports, by kind; see `read_side`."""
    found = {kind: read_side(edition, kind) for kind in Kind}
    return {kind: side for kind, side in found.items() if side is not None}


class SideSearch:
    """Finds the reports whose sentences or images are nearest."""

    def __init__(self, kind: Kind, side: SideVectors, catalogue: Catalogue) -> None:
        self._count = _COUNTED[kind]
        self._vectors = side.vectors
        self._catalogue = catalogue
        named = [catalogue.row_of[name] for names in side.reports.values() for name in names]
        counts = [len(names) for names in side.reports.values()]
        self._owners = np.asarray(named, np.intp)
        self._vector_of = np.repeat(np.arange(len(counts)), counts)

    def nearest(self, query: NDArray[np.float32], k: int, *, excluded: Rows) -> list[int]:
        """Rows of the ``k`` nearest reports, one a text and the first of it, nearest first.

        Ties by report id.

        Args:
            query: float32 [dim], norm 1.
            k: how many at most; reports that nothing stands for never come.
            excluded: rows of reports that do not count.
        """
        near = self._nearness(np.einsum("vd,d->v", self._vectors, query)[self._vector_of])
        near[excluded] = -np.inf
        chosen: dict[int, int] = {}
        for row in self._best_first(near):
            code = int(self._catalogue.texts.codes[row])
            if code not in chosen:
                same = self._catalogue.texts.members(code)
                chosen[code] = int(np.setdiff1d(same, excluded)[0])
            if len(chosen) == k:
                break
        return list(chosen.values())

    def _nearness(self, similarities: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of each report the mean of its nearest few: float64 [R], -inf where it has nothing."""
        order = np.lexsort((-similarities, self._owners))
        owners = self._owners[order]
        place = np.arange(len(owners)) - np.searchsorted(owners, owners)
        counted = place < self._count
        rows = len(self._catalogue)
        sums = np.bincount(owners[counted], similarities[order][counted], minlength=rows)
        sizes = np.bincount(owners[counted], minlength=rows)
        return np.where(sizes > 0, sums / np.maximum(sizes, 1), -np.inf)

    @staticmethod
    def _best_first(near: NDArray[np.float64]) -> Iterator[int]:
        order = np.argsort(-near, kind="stable")
        return (int(row) for row in order if near[row] > -np.inf)


def open_side(edition: Edition, kind: Kind) -> SideSearch:
    """A search through an edition's vectors of one kind.

    Raises:
        StoreError: it has none.
    """
    side = read_side(edition, kind)
    if side is None:
        raise StoreError(
            f"the index has no vectors of {kind}, which the settings ask for ([retrieval]): "
            f"{_CURES[kind]}"
        )
    return SideSearch(kind, side, edition.catalogue)


def sample_of(edition: Edition, kind: Kind, count: int) -> NDArray[np.float32] | None:
    """Some of the vectors, spread over all, read alone: float32 [count or fewer, dim].

    None where the edition has none, or none that can be read; `verify` says why.
    """
    if not has_side(edition.manifest, kind):
        return None
    try:
        vectors = np.load(edition.path / kind.files[0], mmap_mode="r", allow_pickle=False)
        rows = np.linspace(0, len(vectors) - 1, min(len(vectors), count)).astype(int)
        return np.asarray(vectors[rows], np.float32)
    except (OSError, EOFError, ValueError):
        return None
