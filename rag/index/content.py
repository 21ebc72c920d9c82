"""What an index holds, and how Chroma keeps it: one record a text, one an image.

Thousands of reports say the same to the letter. Their equal vectors would be each other's only
neighbours in the graph, islands that a search does not leave or never reaches; so a distinct text
is one record, under the text's hash. It holds the first report by id as JSON, and of the others
what they have different from it.

All of it is metadata and not Chroma's "document": the full-text index of documents would double
the files and the time, and nothing here searches by words.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from encoders.base import EncoderIdentity
from rag.corpus.records import fingerprint, record_from_json, record_to_json, text_hash
from rag.errors import StoreError
from rag.index.chroma import VectorCollection, open_collections
from rag.index.client import Place
from rag.index.info import REINDEX_HINT, CollectionInfo, IndexInfo
from rag.schema import ReportRecord

Metadata = Mapping[str, Any]

_RECORDS = "chroma.sqlite3"


@dataclass(frozen=True, slots=True)
class Content:
    """What an index holds or shall hold.

    Attributes:
        records: its reports, by id.
        images: key of an image -> ids of the reports it stands for.
        collections: where the reports come from.
        removed: hashes of studies and patients that stay out.
        store_id: of the folder.
        encoder: what made the vectors.
        sound: whether Chroma gave all that back, and not only its records without the graph.
    """

    records: Sequence[ReportRecord]
    collections: tuple[CollectionInfo, ...]
    removed: tuple[str, ...]
    store_id: str
    encoder: EncoderIdentity
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sound: bool = True

    def of(self, records: Sequence[ReportRecord]) -> "Content":
        """With these of the reports, and their images."""
        kept = {record.report_id for record in records}
        left = {
            key: [name for name in reports if name in kept] for key, reports in self.images.items()
        }
        images = {key: reports for key, reports in left.items() if reports}
        return replace(self, records=records, images=images)


def by_text(records: Iterable[ReportRecord]) -> dict[str, list[ReportRecord]]:
    """Reports by the hash of their text, each list by report id, texts by their first report."""
    groups: dict[str, list[ReportRecord]] = {}
    for record in sorted(records, key=lambda record: record.report_id):
        groups.setdefault(text_hash(record.text), []).append(record)
    return groups


def to_metadata(reports: Sequence[ReportRecord]) -> dict[str, str | int]:
    """Reports of one text as Chroma keeps them."""
    first, *others = map(record_to_json, reports)
    differences = [
        {key: other.get(key) for key in first | other if other.get(key) != first.get(key)}
        for other in others
    ]
    return {
        "report": json.dumps(first, ensure_ascii=False),
        "copies": len(reports),
        "others": json.dumps(differences, ensure_ascii=False),
    }


def reports_of(metadata: Metadata) -> Iterator[ReportRecord]:
    """All reports of a text, by id. Those after the first, up to thousands, are read when asked.

    Raises:
        StoreError: it is not what `to_metadata` wrote.
    """
    try:
        first = json.loads(metadata["report"])
        yield record_from_json(first)
        for different in json.loads(metadata["others"]):
            values = first | different
            yield record_from_json({k: value for k, value in values.items() if value is not None})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"a record in Chroma is not as it was written ({type(error).__name__}): {REINDEX_HINT}"
        ) from error


def place_of(directory: Path, info: IndexInfo, url: str) -> Place:
    """Where the collections of a version are."""
    return Place(directory / f"version-{info.version}" / "chroma", url, info.version)


def read_content(directory: Path, info: IndexInfo, url: str) -> Content:
    """Read everything, and refuse what is not what was written, so that no damage is carried over.

    Raises:
        StoreError: Chroma's files are damaged, or a record is missing, changed or doubled.
    """
    place, sound = place_of(directory, info, url), True
    try:
        try:
            records, images = _read(place)
        except StoreError:
            if url or not (place.folder / _RECORDS).is_file():
                raise
            sound = False
            # a damaged graph keeps Chroma from giving back records, too; no graph at all does not
            with TemporaryDirectory(dir=directory) as beside:
                shutil.copy(place.folder / _RECORDS, beside)
                records, images = _read(Place(Path(beside), "", info.version))
    except StoreError as error:
        raise _damaged(directory, str(error).partition(": `cxr-rag")[0]) from error
    if fingerprint(records) != info.fingerprint or len(images) != info.images:
        raise _damaged(directory, "it does not hold what was written")
    return Content(
        records, info.collections, info.removed, info.store_id, info, images=images, sound=sound
    )


def _read(place: Place) -> tuple[list[ReportRecord], dict[str, list[str]]]:
    with open_collections(place) as (texts, images):
        records = [record for reports in read_texts(texts).values() for record in reports]
        return sorted(records, key=lambda record: record.report_id), read_images(images)


def read_texts(texts: VectorCollection) -> dict[str, list[ReportRecord]]:
    """All reports, by text id."""
    metadatas = texts.metadatas(texts.ids())
    return {text_id: list(reports_of(metadata)) for text_id, metadata in metadatas.items()}


def read_images(images: VectorCollection) -> dict[str, list[str]]:
    """Ids of the reports that each image stands for, by the image's key."""
    metadatas = images.metadatas(images.ids())
    return {key: json.loads(metadata.get("reports", "[]")) for key, metadata in metadatas.items()}


def _damaged(directory: Path, words: str) -> StoreError:
    return StoreError(f"the index in {directory} cannot be read back ({words}): {REINDEX_HINT}")
