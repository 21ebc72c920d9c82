"""What a report states is read once, kept by the store, and the same whoever reads it."""

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from support.fake_encoder import FakeEncoder
from support.made_up_reports import FINDINGS_AND_IMPRESSIONS, made_up_record

from rag.corpus.records import make_corpus, record_from_json, record_hash, record_to_json
from rag.index import ReportIndex, build_index, verify_index
from rag.report_reading import annotate_labels, usable_labels
from rag.schema import ReportRecord

RECORDS = [made_up_record(name) for name in FINDINGS_AND_IMPRESSIONS]


def test_labels_that_a_report_can_lend() -> None:
    assert usable_labels(made_up_record("R1")) == {"Cardiomegaly"}
    assert usable_labels(made_up_record("R3")) == frozenset(), "what has a measure lends none"
    assert usable_labels(made_up_record("R4")) == {"No Finding"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.report_id)
def test_noting_changes_no_label_and_survives_the_disk(record: ReportRecord) -> None:
    noted, problems = annotate_labels(record)
    assert problems == ()
    assert replace(noted, stated=None) == record
    assert usable_labels(noted) == usable_labels(record)
    assert record_from_json(json.loads(json.dumps(record_to_json(noted)))) == noted


def test_a_record_that_nobody_has_read_keeps_the_hash_it_had_before() -> None:
    assert "stated" not in record_to_json(RECORDS[0])
    assert record_hash(RECORDS[0]) != record_hash(annotate_labels(RECORDS[0])[0])


def test_a_store_gives_what_was_noted_and_nothing_is_read_again(tmp_path: Path) -> None:
    corpus, encoder = make_corpus("made-up", records=RECORDS), FakeEncoder()
    build_index(corpus, encoder, tmp_path, screens=(annotate_labels,))
    assert verify_index(tmp_path).passed
    (query,) = encoder.embed_texts(["The lungs are clear."])
    with (
        ReportIndex(tmp_path) as store,
        patch("rag.report_reading.parse_sentence", side_effect=AssertionError("read again")),
    ):
        found = store.query(query, len(RECORDS))
        noted = {hit.record.report_id: usable_labels(hit.record) for hit in found}
    assert noted == {record.report_id: usable_labels(record) for record in RECORDS}


def test_a_store_of_before_is_read_and_the_next_indexing_notes_without_embedding(
    tmp_path: Path,
) -> None:
    corpus, encoder = make_corpus("made-up", records=RECORDS), FakeEncoder()
    build_index(corpus, encoder, tmp_path)
    assert verify_index(tmp_path).passed
    report = build_index(corpus, encoder, tmp_path, screens=(annotate_labels,))
    assert (report.changed, report.embedded) == (len(RECORDS), 0)
    assert verify_index(tmp_path).passed
    assert build_index(corpus, encoder, tmp_path, screens=(annotate_labels,)).changed == 0
