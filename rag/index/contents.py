"""Everything an index holds, read back from Chroma. For writers and `verify`, not for queries."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory

from rag.corpus.records import fingerprint
from rag.errors import StoreError
from rag.index.chroma import VectorCollection, open_collections
from rag.index.client import Place
from rag.index.info import REINDEX_HINT, IndexInfo
from rag.index.records import Metadata, reports_of
from rag.schema import ReportRecord

_RECORDS = "chroma.sqlite3"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an index holds.

    Attributes:
        records: its reports, by id.
        images: by key, with the ids of the reports they stand for.
        sound: whether Chroma gave all that back, and not only its records without the graph.
    """

    records: list[ReportRecord] = field(default_factory=list)
    images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sound: bool = True

    def images_of(self, records: Iterable[ReportRecord]) -> dict[str, tuple[str, ...]]:
        """The images of some of the reports."""
        kept = {record.report_id for record in records}
        left = {
            key: tuple(name for name in reports if name in kept)
            for key, reports in self.images.items()
        }
        return {key: reports for key, reports in left.items() if reports}


def place_of(directory: Path, info: IndexInfo, url: str) -> Place:
    """Where the collections of a version are."""
    return Place(directory / f"version-{info.version}" / "chroma", url, info.version)


def read_contents(directory: Path, info: IndexInfo, url: str) -> Contents:
    """Read everything, and refuse what is not what was written, so that no damage is carried over.

    Raises:
        StoreError: Chroma's files are damaged, or a record is missing, changed or doubled.
    """
    place, sound = place_of(directory, info, url), True
    try:
        try:
            records, of_images = _read(place)
        except StoreError:
            if url or not (place.folder / _RECORDS).is_file():
                raise
            sound = False
            # a damaged graph keeps Chroma from giving back records, too; no graph at all does not
            with TemporaryDirectory(dir=directory) as beside:
                shutil.copy(place.folder / _RECORDS, beside)
                records, of_images = _read(Place(Path(beside), "", info.version))
    except StoreError as error:
        raise _damaged(directory, str(error).partition(": `cxr-rag")[0]) from error
    records.sort(key=lambda record: record.report_id)
    if fingerprint(records) != info.fingerprint or len(of_images) != info.images:
        raise _damaged(directory, "it does not hold what was written")
    return Contents(records, of_images, sound)


def _read(place: Place) -> tuple[list[ReportRecord], dict[str, tuple[str, ...]]]:
    with open_collections(place) as (texts, images):
        records = [record for _, found in read_texts(texts) for record in found]
        of_images = {
            key: tuple(loads(metadata["reports"]))
            for key, metadata in images.metadatas(images.ids()).items()
        }
    return records, of_images


def read_texts(collection: VectorCollection) -> Iterable[tuple[str, list[ReportRecord]]]:
    """All texts with their reports, by text id."""
    metadatas: Mapping[str, Metadata] = collection.metadatas(collection.ids())
    return ((text_id, list(reports_of(metadata))) for text_id, metadata in metadatas.items())


def _damaged(directory: Path, words: str) -> StoreError:
    return StoreError(f"the index in {directory} cannot be read back ({words}): {REINDEX_HINT}")
