"""Reports of one text as one record of Chroma, and back.

Thousands of reports say the same to the letter. Their equal vectors would be each other's only
neighbours in the graph, islands that a search does not leave or never reaches; so a distinct text
is one record, under the text's hash. It holds the first report by id as JSON, and of the others
what they have different from it.

All of it is metadata and not Chroma's "document": the full-text index of documents would double
the files and the time, and nothing here searches by words.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rag.corpus.records import record_from_json, record_to_json, text_hash
from rag.errors import StoreError
from rag.index.info import REINDEX_HINT
from rag.schema import ReportRecord

Metadata = Mapping[str, Any]


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
