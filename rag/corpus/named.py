"""Report collections by name or path."""

from collections.abc import Callable
from pathlib import Path

from rag.corpus import openi
from rag.corpus.records import Corpus
from rag.corpus.user_collection import read_collection
from rag.errors import UsageError

NAMED_COLLECTIONS: dict[str, Callable[[], Corpus]] = {openi.NAME: openi.read_openi_reports}
"""Readers of the collections that packages carry."""


def read_corpus(
    source: str, *, name: str = "", licence: str = "not stated", attribution: str = ""
) -> Corpus:
    """Read one of `NAMED_COLLECTIONS`, or a user's own file or folder.

    ``name``, ``licence`` and ``attribution`` describe a user's own; a named collection has its own.

    Raises:
        UsageError: there is no such collection, file or folder.
        CorpusError: it cannot be read.
    """
    if source in NAMED_COLLECTIONS:
        return NAMED_COLLECTIONS[source]()
    if not Path(source).exists():
        raise UsageError(f"there is no {source}")
    return read_collection(Path(source), name=name, licence=licence, attribution=attribution)
