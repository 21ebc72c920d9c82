"""What a sentence states: topics, sides, sizes, numbers, priors, advice."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.report_nlp.non_findings import (
    NumberKind,
    find_numbers,
    has_placeholder,
    prior_mentions,
    recommends_or_communicates,
)
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.statements import Severity, Side, Statement, Topic, parse_sentence

GOLDEN = Path(__file__).parent / "golden" / "prior_sentences.jsonl"
PRIORS = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]


def statement(sentence: str, finding: str) -> Statement:
    (found,) = [s for s in parse_sentence(sentence).statements if s.finding.name == finding]
    return found


@pytest.mark.parametrize("split", ["dev", "held-out"])
def test_prior_mentions(split: str) -> None:
    cases = [case for case in PRIORS if case["split"] == split]
    found = [bool(prior_mentions(case["text"])) for case in cases]
    expected = [case["prior"] for case in cases]
    true_positives = sum(f and w for f, w in zip(found, expected, strict=True))
    assert len(cases) >= 80
    assert 2 * true_positives / (sum(found) + sum(expected)) >= 0.95


def test_offsets_of_prior_mentions() -> None:
    sentence = "Effusion is\tunchanged compared\nto the prior film, ET tube again seen."
    words = [sentence[start:end] for start, end in prior_mentions(sentence)]
    assert words == ["unchanged", "compared\nto the prior film", "again seen"]


@pytest.mark.parametrize(
    ("sentence", "topics"),
    [
        ("The heart, lungs and mediastinum are normal.", "heart lungs mediastinum"),
        ("Heart size is normal.", "heart"),
        ("Small effusion.", "pleura"),
        ("No focal consolidation, effusion or pneumothorax.", "lungs pleura"),
        ("Lungs are clear.", "lungs"),
        ("Old rib fracture.", "bones"),
        ("The bony thorax is intact.", "bones"),
        ("PICC tip in the superior vena cava.", "devices"),
        ("Free air under the diaphragm.", "abdomen"),
        ("Subcutaneous emphysema of the chest wall.", "soft_tissues"),
        ("No acute cardiopulmonary abnormality.", "overall"),
        ("Normal chest.", "overall"),
        ("PA and lateral views were obtained.", "technique"),
        ("Discussed with Dr. Jones by telephone.", "advice"),
        ("CT is recommended for the nodule.", "advice lungs"),
        ("Heart size is normal on the lateral view.", "heart"),
        ("Thank you.", "other"),
        ("", "other"),
    ],
)
def test_topics(sentence: str, topics: str) -> None:
    assert parse_sentence(sentence).topics == {Topic(topic) for topic in topics.split()}


def test_attributes_belong_to_the_right_finding() -> None:
    sentence = (
        "Small left effusion and right basilar atelectasis; large nodule in the left upper lobe."
    )
    effusion = statement(sentence, "pleural_effusion")
    assert effusion.sides == {Side.LEFT}
    assert effusion.severities == {Severity.SLIGHT}
    atelectasis = statement(sentence, "atelectasis")
    assert atelectasis.sides == {Side.RIGHT}
    assert atelectasis.zones == {"lower"}
    nodule = statement(sentence, "lung_lesion")
    assert nodule.sides == {Side.LEFT}
    assert nodule.severities == {Severity.SEVERE}


def test_a_single_side_of_a_clause_applies_to_all_but_the_heart() -> None:
    sentence = "Left effusion with atelectasis and an enlarged heart."
    assert statement(sentence, "atelectasis").sides == {Side.LEFT}
    assert statement(sentence, "cardiac_size").sides == set()


@pytest.mark.parametrize(
    ("sentence", "sides"),
    [
        ("Bibasilar atelectasis.", {Side.BILATERAL}),
        ("RLL atelectasis.", {Side.RIGHT}),
        ("Lingular atelectasis.", {Side.LEFT}),
        ("Left and right atelectasis.", {Side.BILATERAL}),
        ("Atelectasis.", set()),
    ],
)
def test_sides(sentence: str, sides: set[Side]) -> None:
    assert statement(sentence, "atelectasis").sides == sides


def test_ranges_of_severity() -> None:
    found = statement("Small to moderate effusion.", "pleural_effusion")
    assert found.severities == {Severity.SLIGHT, Severity.MODERATE}


def test_synonyms_have_one_concept() -> None:
    for sentence in ("Cardiomegaly.", "The heart is enlarged.", "Enlarged cardiac silhouette."):
        (found,) = parse_sentence(sentence).statements
        assert (found.concept, found.polarity) == ("heart_size", Polarity.POSITIVE)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("2. A 1.2 cm nodule over the 5th rib.", [("measure", "12 mm"), ("level", "rib 5")]),
        ("A 2.3 x 1.5 cm mass.", [("measure", "23 mm"), ("measure", "15 mm")]),
        ("T8-T9 fracture.", [("level", "t8"), ("level", "t9")]),
        ("Fifth and sixth ribs.", [("level", "rib 5"), ("level", "rib 6")]),
        ("Two nodules.", [("count", "2")]),
        ("On 3/14/2018 at 10:30.", [("date", "3 14 2018"), ("date", "10 30")]),
        ("May 12, 2019.", [("date", "may 12 2019")]),
        ("67-year-old, six-week follow-up.", [("measure", "67 year-old"), ("measure", "6 week")]),
        ("20% pneumothorax.", [("measure", "20 %")]),
        ("30 minutes later.", [("measure", "30 minute")]),
        ("A 3 centimeter mass.", [("measure", "30 mm")]),
        ("1. No effusion.", []),
        ("One can see no effusion.", []),
    ],
)
def test_numbers(sentence: str, expected: list[tuple[str, str]]) -> None:
    found = find_numbers(sentence)
    assert [(number.kind.value, number.value) for number in found] == expected
    for number in found:
        assert sentence[number.start : number.end].strip()
        assert isinstance(number.kind, NumberKind)


@pytest.mark.parametrize("token", ["XXXX", "XX", "___", "[**Hospital 1**]"])
def test_placeholders(token: str) -> None:
    assert has_placeholder(f"Seen by {token} today.")
    assert not has_placeholder("X-ray of the chest, Xanax, snake_case.")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Recommend CT.", True),
        ("Follow-up is advised.", True),
        ("Please correlate clinically.", True),
        ("Findings were called to Dr. Lee at noon.", True),
        ("The nurse was notified.", True),
        ("Consider lateral decubitus views.", True),
        ("Further evaluation with CT may be helpful.", True),
        ("The so-called middle lobe syndrome.", False),
        ("Opacity suggesting pneumonia.", False),
        ("There is no effusion.", False),
        ("Tube tip indicates the carina.", False),
    ],
)
def test_advice(sentence: str, expected: bool) -> None:
    assert recommends_or_communicates(sentence) is expected


@given(st.text(max_size=200))
def test_any_sentence_can_be_parsed(sentence: str) -> None:
    reading = parse_sentence(sentence)
    assert reading.topics
    spans = [*reading.prior_mentions, *((s.start, s.end) for s in reading.statements)]
    spans += [(n.start, n.end) for n in reading.numbers]
    assert all(0 <= start < end <= len(sentence) for start, end in spans)


@pytest.mark.parametrize(
    ("sentence", "finding", "zones"),
    [
        ("Streaky opacities in the lung bases may represent atelectasis.", "opacity", "lower"),
        ("Opacity at the left base likely atelectasis.", "opacity", "lower"),
        ("Opacity in the right upper lobe suspicious for pneumonia.", "opacity", "upper"),
        ("Volume loss in the left lower lobe due to atelectasis.", "lung_other", "lower"),
        ("Patchy opacities in both lower lobes representing edema.", "opacity", "lower"),
        ("Opacity may represent left basilar atelectasis.", "atelectasis", "lower"),
        ("Opacity may represent left basilar atelectasis.", "opacity", ""),
        ("Mitral valve replacement.", "device_valve", "mitral_valve"),
        ("Aortic valve prosthesis.", "device_valve", "aortic_valve"),
    ],
)
def test_zones_belong_to_the_nearest_finding(sentence: str, finding: str, zones: str) -> None:
    assert statement(sentence, finding).zones == frozenset(zones.split())


@pytest.mark.parametrize(
    ("sentence", "compares"),
    [
        ("Right pleural effusion is present and appears increased.", True),
        ("The pneumothorax looks slightly smaller.", True),
        ("Effusion, slightly larger.", True),
        ("Increased size of the left basilar opacity.", True),
        ("Increased size of the heart.", False),
        ("The effusion is larger on the right.", False),
        ("Interstitial markings are increased.", False),
        ("Heart size is mildly increased.", False),
        ("Increased density in the left base.", False),
    ],
)
def test_increased_findings_are_prior_mentions(sentence: str, compares: bool) -> None:
    assert bool(prior_mentions(sentence)) is compares


@pytest.mark.parametrize(
    ("sentence", "advises"),
    [
        ("Withdraw the endotracheal tube by 2 cm.", True),
        ("The left PICC line should be advanced.", True),
        ("Suggest lateral view.", True),
        ("The endotracheal tube has been withdrawn.", False),
        ("Lateral view suggests an effusion.", False),
    ],
)
def test_instructions_about_tubes_are_advice(sentence: str, advises: bool) -> None:
    assert recommends_or_communicates(sentence) is advises


def test_the_cardiomediastinal_silhouette_concerns_the_heart() -> None:
    found = statement("The cardiomediastinal silhouette is normal.", "mediastinal_size")
    assert [claim.concept for claim in found.claims] == ["mediastinal_size", "heart_size"]
    found = statement("The mediastinum is normal.", "mediastinal_size")
    assert found.claims == (found,)
