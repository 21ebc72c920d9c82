"""What indexing a collection would change in an index, before anything is done.

Decides what comes in, what stays and what goes, and why. Pure: touches neither disk nor encoder.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from rag.corpus.records import Corpus, Problem, fingerprint, record_hash
from rag.index.content import Content
from rag.index.info import CollectionInfo, Progress
from rag.schema import ReportRecord


class Screen(Protocol):
    """Looks at every report before it is indexed: takes out instructions, names; notes findings."""

    def __call__(self, record: ReportRecord) -> tuple[ReportRecord | None, tuple[str, ...]]:
        """The record as it may be indexed (None: not at all), and what was found in it.

        A changed text needs new sentence spans (`rag.report_nlp.sentences.with_sentences`). What
        was found is listed among the problems; it must not quote the report.
        """


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
        unknown_excludes: listed studies that the collection does not have.
        problems: the collection's own, and what screening found.
        seconds: wall time.
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
    unknown_excludes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0
    index_id: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an index shall hold.

    Attributes:
        records: of all its collections, sorted by report id.
        collections: where they come from.
        summary: what changes, without what only doing it can tell.
    """

    records: tuple[ReportRecord, ...]
    collections: tuple[CollectionInfo, ...]
    summary: IndexSummary


def make_plan(
    corpus: Corpus,
    base: Content,
    *,
    exclude: frozenset[str],
    screens: tuple[Screen, ...],
    progress: Progress,
) -> Plan:
    """Screen a collection, and compare it with what an index holds.

    Args:
        corpus: the collection.
        base: everything in the index now.
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
        unknown_excludes=tuple(sorted(exclude - {record.study_id for record in corpus.records})),
        problems=tuple(problems),
    )
    records = tuple(sorted([*wanted, *others.values()], key=lambda r: r.report_id))
    info = CollectionInfo(corpus.name, corpus.licence, corpus.attribution, "", 0)
    return Plan(records, collection_infos(records, [info, *base.collections]), summary)


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


def _was_removed(record: ReportRecord, base: Content) -> bool:
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
        CollectionInfo(
            name=name,
            licence=first[name].licence,
            attribution=first[name].attribution,
            fingerprint=fingerprint(members),
            count=len(members),
        )
        for name, members in sorted(groups.items())
    )


def _screen(
    record: ReportRecord, screens: tuple[Screen, ...], problems: list[Problem]
) -> ReportRecord | None:
    screened: ReportRecord | None = record
    for screen in screens:
        if screened is None:
            return None
        screened, found = screen(screened)
        problems += [Problem(record.collection, reason, record.report_id) for reason in found]
    return screened if screened is not None and screened.text.strip() else None
