"""What an index contains, and how Chroma stores it: one record per text, one per image.

Thousands of reports have identical text. Their equal vectors would be each other's only neighbours
in the graph: islands that a search does not leave or never reaches. So a distinct text is one
record, under the text's hash: its first report by id as JSON, and what the others differ in.

All of it is metadata, not Chroma's "document": the full-text index of documents would double files
and time, and nothing here searches by words.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from encoders.base import EncoderIdentity
from rag.corpus.records import (
    Corpus,
    Problem,
    fingerprint,
    record_from_json,
    record_hash,
    record_to_json,
    text_hash,
)
from rag.errors import StoreError
from rag.index.chroma import Metadata
from rag.index.info import FORMAT, REINDEX_HINT, CollectionInfo, Progress
from rag.schema import ReportRecord

Screen = Callable[[ReportRecord], tuple[ReportRecord | None, tuple[str, ...]]]
"""Checks a report before it is indexed. Returns the record to index (None: leave it out) and what
was found in it, without quoting it. A changed text needs new sentence spans."""


@dataclass(frozen=True, slots=True)
class IndexContent:
    """What an index contains, or will contain.

    Attributes:
        records: reports, by id.
        collections: their collections.
        removed: hashes of studies and patients that stay out.
        store_id: of the folder.
        encoder: made the vectors.
        images: image key -> ids of the reports of its study.
        index_id: of the existing index with exactly this content; empty if none or damaged.
    """

    records: Sequence[ReportRecord]
    collections: tuple[CollectionInfo, ...]
    removed: tuple[str, ...]
    store_id: str
    encoder: EncoderIdentity
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    index_id: str = ""

    def with_records(self, records: Sequence[ReportRecord]) -> "IndexContent":
        """This content with other records; images without a report are dropped."""
        kept = {record.report_id for record in records}
        images = {
            key: left
            for key, report_ids in self.images.items()
            if (left := [report_id for report_id in report_ids if report_id in kept])
        }
        return replace(self, records=records, images=images, index_id="")


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What indexing did.

    Attributes:
        added, changed, kept, removed: reports of the collection, compared with the index before.
        excluded: reports whose study the caller excluded.
        withheld: reports whose study or patient was removed on request.
        embedded: texts embedded.
        images: images embedded.
        without_image: reports without an image, if the index has images.
        unknown_ids: ids to exclude or remove that do not exist.
        problems: those of the collection, and what screening found.
        index_id: of the resulting index.
    """

    added: int = 0
    changed: int = 0
    kept: int = 0
    removed: int = 0
    excluded: int = 0
    withheld: int = 0
    embedded: int = 0
    images: int = 0
    without_image: int = 0
    unknown_ids: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    index_id: str = ""


def merge_collection(
    base: IndexContent,
    corpus: Corpus,
    *,
    exclude: frozenset[str],
    screens: tuple[Screen, ...],
    progress: Progress,
) -> tuple[IndexContent, IndexSummary]:
    """Replace a collection's part of an index; returns the new content and what changes.

    ``exclude`` are study ids. ``progress`` is called as ("read", done, total).
    """
    others = {r.report_id: r for r in base.records if r.collection != corpus.name}
    old_hashes = {r.report_id: record_hash(r) for r in base.records if r.collection == corpus.name}
    problems, records = list(corpus.problems), list[ReportRecord]()
    excluded = withheld = 0
    for number, record in enumerate(corpus.records, start=1):
        progress("read", number, len(corpus.records))
        if record.study_id in exclude:
            excluded += 1
        elif base.removed and _was_removed(record, base):
            withheld += 1
        elif other := others.get(record.report_id):
            reason = f"the collection {other.collection} has a report of this id already"
            problems.append(Problem(corpus.name, reason, record.report_id))
        elif (screened := _apply_screens(record, screens, problems)) is not None:
            records.append(screened)
    hashes = {record.report_id: record_hash(record) for record in records}
    summary = IndexSummary(
        added=len(hashes.keys() - old_hashes.keys()),
        changed=sum(old_hashes.get(key, value) != value for key, value in hashes.items()),
        kept=sum(old_hashes.get(key) == value for key, value in hashes.items()),
        removed=len(old_hashes.keys() - hashes.keys()),
        excluded=excluded,
        withheld=withheld,
        unknown_ids=tuple(sorted(exclude - {record.study_id for record in corpus.records})),
        problems=tuple(problems),
    )
    everything = tuple(sorted([*records, *others.values()], key=lambda r: r.report_id))
    info = CollectionInfo(corpus.name, corpus.licence, corpus.attribution, "", 0)
    infos = collection_infos(everything, [info, *base.collections])
    return replace(base.with_records(everything), collections=infos), summary


def content_id(
    encoder: EncoderIdentity,
    records_fingerprint: str,
    images: Mapping[str, Sequence[str]],
    chroma: Mapping[str, Any],
) -> str:
    """`IndexInfo.index_id` of an index with these records and images in a Chroma so configured."""
    images_hash = _hash_json({key: list(ids) for key, ids in images.items()}) if images else ""
    built_with = [FORMAT, encoder.encoder_id, encoder.preprocess_hash]
    return _hash_json([*built_with, records_fingerprint, images_hash, dict(chroma)])[:12]


def _hash_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def removal_hashes(
    store_id: str, *, studies: Iterable[str] = (), patients: Iterable[str] = ()
) -> frozenset[str]:
    """Hashes that stand for studies and patients removed on request, so no id of theirs is kept.

    Salted: the same id has another hash in another index.
    """
    names = [f"study {study}" for study in studies]
    names += [f"patient {patient}" for patient in patients]
    digests = (hashlib.sha256(f"{store_id} {name}".encode()) for name in names)
    return frozenset(digest.hexdigest()[:32] for digest in digests)


def _was_removed(record: ReportRecord, base: IndexContent) -> bool:
    hashes = removal_hashes(base.store_id, studies=[record.study_id], patients=[record.patient_id])
    return not hashes.isdisjoint(base.removed)


def collection_infos(
    records: Iterable[ReportRecord], infos: Iterable[CollectionInfo]
) -> tuple[CollectionInfo, ...]:
    """Infos of the records' collections, counted anew; the first info of each name is used."""
    groups: dict[str, list[ReportRecord]] = {}
    for record in records:
        groups.setdefault(record.collection, []).append(record)
    first: dict[str, CollectionInfo] = {}
    for info in infos:
        first.setdefault(info.name, info)
    return tuple(
        replace(first[name], fingerprint=fingerprint(members), count=len(members))
        for name, members in sorted(groups.items())
    )


def _apply_screens(
    record: ReportRecord, screens: tuple[Screen, ...], problems: list[Problem]
) -> ReportRecord | None:
    for screen in screens:
        screened, reasons = screen(record)
        problems += [Problem(record.collection, reason, record.report_id) for reason in reasons]
        if screened is None:
            return None
        record = screened
    return record if record.text.strip() else None


def group_by_text(records: Iterable[ReportRecord]) -> dict[str, list[ReportRecord]]:
    """Reports by the hash of their text, each list by report id, texts by their first report."""
    groups: dict[str, list[ReportRecord]] = {}
    for record in sorted(records, key=lambda record: record.report_id):
        groups.setdefault(text_hash(record.text), []).append(record)
    return groups


def reports_to_metadata(reports: Sequence[ReportRecord]) -> dict[str, str | int]:
    """Metadata of a text's record in Chroma."""
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


def reports_from_metadata(metadata: Metadata) -> Iterator[ReportRecord]:
    """All reports of a text, by id. Those after the first, up to thousands, are parsed lazily.

    Raises:
        StoreError: `reports_to_metadata` did not write this.
    """
    try:
        first = json.loads(metadata["report"])
        yield record_from_json(first)
        for differences in json.loads(metadata["others"]):
            values = first | differences
            yield record_from_json({k: value for k, value in values.items() if value is not None})
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"a record in Chroma is not as it was written ({type(error).__name__}): {REINDEX_HINT}"
        ) from error


def report_ids_to_metadata(report_ids: Sequence[str]) -> dict[str, str]:
    """Metadata of an image's record in Chroma: the reports of its study."""
    return {"reports": json.dumps(list(report_ids))}


def report_ids_from_metadata(metadata: Metadata) -> list[str]:
    """Ids of the reports of an image's study."""
    report_ids: list[str] = json.loads(metadata["reports"])
    return report_ids
