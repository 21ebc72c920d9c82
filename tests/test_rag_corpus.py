"""Records of collections: ids, hashes, fingerprints, and the study that an image's path names."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.corpus.records import (
    Problem,
    candidate_ids,
    fingerprint,
    ids_in_path,
    make_corpus,
    record_from_json,
    record_hash,
    record_to_json,
    study_id_in_path,
    text_hash,
)
from rag.report_nlp.sentences import with_sentences
from rag.schema import ReportRecord

KNOWN = frozenset({"CXR33", "CXR330", "CXR330_IM", "s50414267", "50414267", "p10000032"})


@pytest.mark.parametrize(
    ("path", "study"),
    [
        ("CXR330_IM-1577-0001.jpg", "CXR330_IM"),
        ("CXR330-1577.jpg", "CXR330"),
        ("CXR330.dcm", "CXR330"),
        ("CXR330", "CXR330"),
        ("CXR3301_IM-1577.jpg", None),  # another study whose number begins alike
        ("CXR33x.png", None),
        ("xCXR330.png", None),
        ("/images/CXR33/0001.dcm", "CXR33"),
        ("C:\\images\\CXR33\\0001.dcm", "CXR33"),
        ("files/p10/p10000032/s50414267/02aa.dcm", "s50414267"),
        ("", None),
        ("/", None),
        ("cxr330.png", None),
    ],
)
def test_study_id_in_path(path: str, study: str | None) -> None:
    assert study_id_in_path(path, KNOWN) == study
    assert study_id_in_path(path, KNOWN & candidate_ids(path)) == study


def test_ids_in_path_finds_ids_of_every_component() -> None:
    path = "files/p10/p10000032/s50414267/02aa.dcm"
    assert ids_in_path(path, KNOWN) == {"p10000032", "s50414267"}


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="/\\"), min_size=1),
    st.sampled_from(["", ".dcm", "_1.png", "-a b.jpg"]),
)
def test_an_image_named_after_its_study_is_always_recognised(study: str, rest: str) -> None:
    assert study_id_in_path(f"folder/{study}{rest}", {study}) == study


RECORDS = st.builds(
    ReportRecord,
    report_id=st.text(min_size=1, max_size=8),
    study_id=st.text(max_size=8),
    patient_id=st.text(max_size=8),
    findings=st.text(max_size=60),
    impression=st.text(max_size=60),
    indication=st.text(max_size=8),
    labels=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    date=st.sampled_from(["", "2026-11-24"]),
    collection=st.text(max_size=8),
)


@given(RECORDS)
def test_a_record_survives_a_round_trip_through_json(record: ReportRecord) -> None:
    whole = with_sentences(record)
    assert record_from_json(record_to_json(whole)) == whole


@given(RECORDS, RECORDS)
def test_hashes_are_equal_only_for_equal_records(one: ReportRecord, other: ReportRecord) -> None:
    assert (record_hash(one) == record_hash(other)) == (one == other)
    assert (text_hash(one.text) == text_hash(other.text)) == (one.text == other.text)


def test_a_corpus_is_sorted_and_named_whatever_the_order() -> None:
    one = ReportRecord("b", "b", "b", findings="Lungs clear.")
    other = ReportRecord("a", "a", "a", findings="Lungs clear.")
    corpus = make_corpus("mine", records=[one, other])
    assert [record.report_id for record in corpus.records] == ["a", "b"]
    assert {record.collection for record in corpus.records} == {"mine"}
    assert corpus == make_corpus("mine", records=[other, one])
    changed = make_corpus("mine", records=[replace(one, labels=("normal",)), other])
    assert fingerprint(corpus.records) != fingerprint(changed.records)


def test_a_problem_is_one_printable_line() -> None:
    assert str(Problem("line 3", "has no report_id")) == "line 3: has no report_id"
    hostile = Problem("a\x1b[2J\n.txt", "not UTF-8", "r\u202e1")
    assert str(hostile) == "a?[2J?.txt (r?1): not UTF-8"
