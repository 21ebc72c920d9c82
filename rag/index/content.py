"""What an index holds or shall hold, and how Chroma keeps it: one record a text, one an image.

Thousands of reports say the same to the letter. Their equal vectors would be each other's only
neighbours in the graph, islands that a search does not leave or never reaches; so a distinct text
is one record, under the text's hash. It holds the first report by id as JSON, and of the others
what they have different from it.

All of it is metadata and not Chroma's "document": the full-text index of documents would double
the files and the time, and nothing here searches by words.
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
"""Looks at a report before it is indexed: the record as it may be indexed (None: not at all), and
what was found in it, without quoting it. A changed text needs new sentence spans."""


@dataclass(frozen=True, slots=True)
class IndexContent:
    """What an index holds or shall hold.

    Attributes:
        records: its reports, by id.
        collections: where the reports come from.
        removed: hashes of studies and patients that stay out.
        store_id: of the folder.
        encoder: what made the vectors.
        images: key of an image -> ids of the reports it stands for.
        index_id: of the index that holds exactly this; empty where none does, or a damaged one.
    """

    records: Sequence[ReportRecord]
    collections: tuple[CollectionInfo, ...]
    removed: tuple[str, ...]
    store_id: str
    encoder: EncoderIdentity
    images: Mapping[str, Sequence[str]] = field(default_factory=dict)
    index_id: str = ""

    def of(self, records: Sequence[ReportRecord]) -> "IndexContent":
        """With these reports, and what is left of the images."""
        kept = {record.report_id for record in records}
        images = {
            key: left
            for key, reports in self.images.items()
            if (left := [name for name in reports if name in kept])
        }
        return replace(self, records=records, images=images, index_id="")


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What indexing did.

    Attributes:
        added, changed, kept, removed: reports of this collection, against what was indexed before.
        excluded: reports left out because the caller listed their study.
        withheld: reports left out because their study or patient was removed on request.
        embedded: texts the encoder was asked for.
        images: images the encoder was asked for.
        without_image: reports that no image leads to, where the index holds images.
        unknown_ids: studies to leave out or to remove, or patients, that are not there.
        problems: the collection's own, and what screening found.
        index_id: of the index as it is now.
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


def with_collection(
    base: IndexContent,
    corpus: Corpus,
    *,
    exclude: frozenset[str],
    screens: tuple[Screen, ...],
    progress: Progress,
) -> tuple[IndexContent, IndexSummary]:
    """A content whose part of this collection is the collection, and what changes by that.

    Args:
        base: everything in the index now.
        corpus: the collection.
        exclude: studies to leave out.
        screens: look at every report that is left.
        progress: told ("read", done, total).
    """
    others = {r.report_id: r for r in base.records if r.collection != corpus.name}
    before = {r.report_id: record_hash(r) for r in base.records if r.collection == corpus.name}
    problems, wanted = list(corpus.problems), list[ReportRecord]()
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
        elif (screened := _screen(record, screens, problems)) is not None:
            wanted.append(screened)
    hashes = {record.report_id: record_hash(record) for record in wanted}
    summary = IndexSummary(
        added=len(hashes.keys() - before.keys()),
        changed=sum(before.get(key, value) != value for key, value in hashes.items()),
        kept=sum(before.get(key) == value for key, value in hashes.items()),
        removed=len(before.keys() - hashes.keys()),
        excluded=excluded,
        withheld=withheld,
        unknown_ids=tuple(sorted(exclude - {record.study_id for record in corpus.records})),
        problems=tuple(problems),
    )
    records = tuple(sorted([*wanted, *others.values()], key=lambda r: r.report_id))
    info = CollectionInfo(corpus.name, corpus.licence, corpus.attribution, "", 0)
    infos = collection_infos(records, [info, *base.collections])
    return replace(base.of(records), collections=infos), summary


def content_id(
    encoder: EncoderIdentity,
    records: str,
    images: Mapping[str, Sequence[str]],
    chroma: Mapping[str, Any],
) -> str:
    """`IndexInfo.index_id`: of records by their fingerprint, and images, in a Chroma so set."""
    held = _hash({key: list(reports) for key, reports in images.items()}) if images else ""
    made_by = [FORMAT, encoder.encoder_id, encoder.preprocess_hash]
    return _hash([*made_by, records, held, dict(chroma)])[:12]


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hashes_of(
    store_id: str, *, studies: Iterable[str] = (), patients: Iterable[str] = ()
) -> frozenset[str]:
    """Studies and patients that were removed on request, so that no id of theirs is kept.

    The same id has another hash in another index.
    """
    named = [f"study {study}" for study in studies]
    named += [f"patient {patient}" for patient in patients]
    digests = (hashlib.sha256(f"{store_id} {name}".encode()) for name in named)
    return frozenset(digest.hexdigest()[:32] for digest in digests)


def _was_removed(record: ReportRecord, base: IndexContent) -> bool:
    own = hashes_of(base.store_id, studies=[record.study_id], patients=[record.patient_id])
    return not own.isdisjoint(base.removed)


def collection_infos(
    records: Iterable[ReportRecord], infos: Iterable[CollectionInfo]
) -> tuple[CollectionInfo, ...]:
    """Licence and attribution from the first info of each name; count and fingerprint anew."""
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


def _screen(
    record: ReportRecord, screens: tuple[Screen, ...], problems: list[Problem]
) -> ReportRecord | None:
    for screen in screens:
        screened, found = screen(record)
        problems += [Problem(record.collection, reason, record.report_id) for reason in found]
        if screened is None:
            return None
        record = screened
    return record if record.text.strip() else None


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


def image_metadata(report_ids: Sequence[str]) -> dict[str, str]:
    """The reports that an image stands for, as Chroma keeps them."""
    return {"reports": json.dumps(list(report_ids))}


def reports_of_image(metadata: Metadata) -> list[str]:
    """Ids of the reports that an image stands for."""
    found: list[str] = json.loads(metadata["reports"])
    return found
