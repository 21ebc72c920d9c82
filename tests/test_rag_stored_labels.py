"""Labels for re-ranking are read once, when a report is indexed."""

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


def test_labels_of_usable_sentences() -> None:
    assert usable_labels(made_up_record("R1")) == {"Cardiomegaly"}
    assert usable_labels(made_up_record("R3")) == frozenset(), (
        "a sentence with a measurement is not usable"
    )
    assert usable_labels(made_up_record("R4")) == {"No Finding"}


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.report_id)
def test_stored_labels_equal_read_ones_and_survive_json(record: ReportRecord) -> None:
    annotated, problems = annotate_labels(record)
    assert problems == ()
    assert replace(annotated, stated=None) == record
    assert usable_labels(annotated) == usable_labels(record)
    assert record_from_json(json.loads(json.dumps(record_to_json(annotated)))) == annotated


def test_a_record_without_stored_labels_keeps_its_hash() -> None:
    assert "stated" not in record_to_json(RECORDS[0])
    assert record_hash(RECORDS[0]) != record_hash(annotate_labels(RECORDS[0])[0])


def test_a_query_reads_no_report(tmp_path: Path) -> None:
    corpus, encoder = make_corpus("made-up", records=RECORDS), FakeEncoder()
    build_index(corpus, encoder, tmp_path, screens=(annotate_labels,))
    assert verify_index(tmp_path).passed
    (query,) = encoder.embed_texts(["The lungs are clear."])
    with (
        ReportIndex(tmp_path) as store,
        patch("rag.report_reading.parse_sentence", side_effect=AssertionError("read again")),
    ):
        found = store.query(query, len(RECORDS))
        annotated = {hit.record.report_id: usable_labels(hit.record) for hit in found}
    assert annotated == {record.report_id: usable_labels(record) for record in RECORDS}


def test_reindexing_an_old_index_stores_labels_without_embedding(
    tmp_path: Path,
) -> None:
    corpus, encoder = make_corpus("made-up", records=RECORDS), FakeEncoder()
    build_index(corpus, encoder, tmp_path)
    assert verify_index(tmp_path).passed
    report = build_index(corpus, encoder, tmp_path, screens=(annotate_labels,))
    assert (report.changed, report.embedded) == (len(RECORDS), 0)
    assert verify_index(tmp_path).passed
    assert build_index(corpus, encoder, tmp_path, screens=(annotate_labels,)).changed == 0
