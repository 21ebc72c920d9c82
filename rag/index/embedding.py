"""Everything of an index that an encoder makes: vectors of reports, of their sentences, of images.

What is there already, or was when an indexing was killed, is not embedded again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.base import ImageTextEncoder
from rag.corpus import Problem, text_hash
from rag.index.images import ImageEmbeddings, Images
from rag.index.vectors import embed_missing, sides_of
from rag.report_nlp.sentences import without_list_number
from rag.schema import ReportRecord
from rag.store.catalogue import Edition
from rag.store.chroma import Progress
from rag.store.files import Manifest
from rag.store.side import Kind, SideVectors, has_side, read_sides


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an index shall have vectors of.

    Attributes:
        records: all its reports.
        sentences: whether their sentences have vectors, too.
        images: what is to be added to the images of reports that stay.
    """

    records: tuple[ReportRecord, ...]
    sentences: bool = False
    images: Images = field(default_factory=dict)

    def is_in(self, manifest: Manifest) -> bool:
        """Whether an index of the same reports has all that, as far as can be said unread."""
        return not self.images and self.sentences == has_side(manifest, Kind.SENTENCES)


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Vectors of an index.

    Attributes:
        vectors: of the reports' texts, by hash: float32 [dim], norm 1.
        sides: of sentences and images.
        texts, images: how many of each the encoder was asked for.
        problems: images that cannot be used.
    """

    vectors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    sides: Mapping[Kind, SideVectors] = field(default_factory=dict)
    texts: int = 0
    images: int = 0
    problems: tuple[Problem, ...] = ()

    def vector_of(self, record: ReportRecord) -> NDArray[np.float32]:
        """The vector of a report."""
        return self.vectors[text_hash(record.text)]

    def adds_nothing_to(self, old: Edition) -> bool:
        """Whether an edition of the same reports has the same beside them."""
        before = read_sides(old)
        return {kind: side.reports for kind, side in before.items()} == {
            kind: side.reports for kind, side in self.sides.items()
        }


def embed(
    wanted: Wanted,
    encoder: ImageTextEncoder,
    directory: Path,
    old: Edition | None,
    *,
    progress: Progress,
) -> Embedded:
    """Embed what has no vector yet, and keep each batch on the disk at once.

    Args:
        wanted: what needs vectors.
        encoder: embeds texts and images.
        directory: of the store.
        old: an edition by the same encoder, whose vectors serve again.
        progress: told ("embed" or "images", done, total).
    """
    before = sides_of(old, wanted.records) if old is not None else {}
    texts = {text_hash(record.text): record.text for record in wanted.records}
    sentences, reports = sentences_of(wanted.records) if wanted.sentences else ({}, {})
    vectors, embedded = embed_missing(
        texts | sentences,
        encoder,
        directory,
        old,
        side=before.get(Kind.SENTENCES),
        progress=progress,
    )
    images = before.get(Kind.IMAGES)
    shelf = ImageEmbeddings(
        images.reports if images else {},
        dict(zip(images.reports, images.vectors, strict=True)) if images else {},
    )
    if wanted.images:
        shelf.add(wanted.images, wanted.records, encoder, directory, progress=progress)
    sides = {
        Kind.SENTENCES: _in_order(reports, vectors),
        Kind.IMAGES: _in_order(shelf.reports, shelf.vectors),
    }
    return Embedded(
        vectors,
        {kind: side for kind, side in sides.items() if side is not None},
        texts=embedded,
        images=shelf.embedded,
        problems=tuple(shelf.problems),
    )


def sentences_of(records: Iterable[ReportRecord]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Distinct sentences without list numbers, by hash: their texts, and who holds them."""
    texts: dict[str, str] = {}
    reports: dict[str, list[str]] = {}
    for record in records:
        for text in {without_list_number(record.sentence(span)) for span in record.sentences}:
            if text:
                key = text_hash(text)
                texts[key] = text
                reports.setdefault(key, []).append(record.report_id)
    return texts, reports


def _in_order(
    reports: Mapping[str, Iterable[str]], vectors: Mapping[str, NDArray[np.float32]]
) -> SideVectors | None:
    keys = sorted(reports)
    if not keys:
        return None
    named = {key: tuple(sorted(set(reports[key]))) for key in keys}
    return SideVectors(named, np.stack([vectors[key] for key in keys]))
