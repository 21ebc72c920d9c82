"""Report collections: Open-I from its package (`openi`), or one's own (`own`).

A reader returns a `Corpus`. Nothing here knows the store or an encoder.
"""

from rag.corpus.records import (
    Corpus,
    Problem,
    fingerprint,
    ids_in_path,
    make_corpus,
    record_from_json,
    record_hash,
    record_to_json,
    study_of_path,
    text_hash,
)

__all__ = [
    "Corpus",
    "Problem",
    "fingerprint",
    "ids_in_path",
    "make_corpus",
    "record_from_json",
    "record_hash",
    "record_to_json",
    "study_of_path",
    "text_hash",
]
