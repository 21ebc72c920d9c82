"""The labeller on hand-written sentences, which docs/grounding.md describes."""

import json
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.report_nlp.labeller import LABELS, blank_non_image_sections, label_text, sentence_mentions
from rag.report_nlp.scopes import Polarity

GOLDEN = Path(__file__).parent / "golden" / "labeller_sentences.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
TEMPLATE_FILE = GOLDEN.with_name("labeller_templates.jsonl")
TEMPLATES = [json.loads(line) for line in TEMPLATE_FILE.read_text(encoding="utf-8").splitlines()]
SIZES = ("", "small ", "large left ", "right lower lobe ", "new ", "patchy ")


def labelled(text: str) -> dict[str, str]:
    return {label: polarity.value for label, polarity in label_text(text).items()}


@pytest.mark.parametrize("split", ["dev", "held-out", "later"])
def test_golden_sentences(split: str) -> None:
    cases = [case for case in CASES if case["split"] == split]
    wrong = [case["text"] for case in cases if labelled(case["text"]) != case["labels"]]
    # Only the held-out half measures; the others were used in development.
    floor = 0.95 if split == "held-out" else 1.0
    assert len(cases) >= 180
    assert 1 - len(wrong) / len(cases) >= floor, wrong if split != "held-out" else len(wrong)


def test_golden_set_is_broad() -> None:
    seen = Counter((label, value) for case in CASES for label, value in case["labels"].items())
    for label in LABELS[1:]:
        assert seen[label, "positive"] >= 5, label
        assert seen[label, "negative"] + seen[label, "uncertain"] >= 4, label
    assert len({case["text"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" \n\t", {}),
        ("123 4.5", {}),
        ("Portable film.", {"No Finding": "positive"}),
        # positive wins over uncertain, uncertain over negative
        ("No effusion. Possible effusion.", {"Pleural Effusion": "uncertain"}),
        ("Possible effusion. Effusion.", {"Pleural Effusion": "positive"}),
        # "stable" yields to other statements
        (
            "Heart size is normal. Heart size is stable.",
            {"No Finding": "positive", "Cardiomegaly": "negative"},
        ),
    ],
)
def test_whole_text(text: str, expected: dict[str, str]) -> None:
    assert labelled(text) == expected


def test_sections_that_do_not_describe_the_image_are_ignored() -> None:
    text = "INDICATION: Pneumothorax?\nCOMPARISON: CT with effusion.\nFINDINGS: Clear lungs."
    read = blank_non_image_sections(text)
    assert len(read) == len(text)
    assert read[text.index("Clear") :] == "Clear lungs."
    assert labelled(text) == {"No Finding": "positive"}


def test_severity_does_not_change_polarity() -> None:
    for size in ("trace", "small", "moderate", "large", "massive", "significant"):
        assert labelled(f"There is a {size} effusion.")["Pleural Effusion"] == "positive"
        assert labelled(f"No {size} effusion.")["Pleural Effusion"] == "negative"


def test_labels_keep_the_order_of_chexpert() -> None:
    found = label_text("Effusion, pneumothorax, edema and cardiomegaly. PICC in place.")
    assert list(found) == [label for label in LABELS if label in found]
    assert len(found) == 5


def test_offsets_point_at_the_words() -> None:
    text = "No XXXX left effussion,\nbut oedema at 5 p.m.?"
    named = {text[mention.start : mention.end] for mention in sentence_mentions(text)}
    assert {"effussion", "oedema"} <= named


FINDINGS = {
    "effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "pulmonary edema": "Edema",
    "nodule": "Lung Lesion",
    "rib fracture": "Fracture",
}
THINGS = {
    "finding": {f"{size}{name}": label for name, label in FINDINGS.items() for size in SIZES},
    "neutral": {
        "heart": "Cardiomegaly",
        "heart size": "Cardiomegaly",
        "cardiac silhouette": "Cardiomegaly",
        "mediastinum": "Enlarged Cardiomediastinum",
        "cardiomediastinal silhouette": "Enlarged Cardiomediastinum",
    },
    "device": dict.fromkeys(
        ["endotracheal tube", "PICC line", "pacemaker", "right IJ catheter"], "Support Devices"
    ),
}


@pytest.mark.parametrize("case", TEMPLATES, ids=lambda case: case["template"])
def test_templates_with_every_finding(case: dict[str, str]) -> None:
    for finding, label in THINGS[case["kind"]].items():
        other = "pneumothorax" if "effusion" in finding else "effusion"
        text = case["template"].format(it=finding, other=other)
        text = text[0].upper() + text[1:]
        assert labelled(text).get(label, "absent") == case["polarity"], text


@given(st.text(max_size=300))
def test_any_text_can_be_labelled(text: str) -> None:
    for label, polarity in label_text(text).items():
        assert label in LABELS
        assert isinstance(polarity, Polarity)


CUES = (
    "no,not,without,effusion,pneumothorax,or,and,.,;,may represent,is,resolved,heart size,normal,"
)
CUES += "enlarged,possible,cannot be excluded,but,small,left,unchanged,tube,removed,with,XXXX,?,vs"
VOCABULARY = st.sampled_from([*CUES.split(","), ","])


@given(st.lists(VOCABULARY, max_size=40))
def test_any_order_of_cue_words_can_be_labelled(words: list[str]) -> None:
    text = " ".join(words)
    labels = label_text(text)
    assert label_text(text.upper()) == labels
    assert set(labels.values()) <= set(Polarity)


@given(st.lists(st.sampled_from([case["text"] for case in CASES]), min_size=1, max_size=4))
def test_labels_of_a_text_are_those_of_its_sentences(texts: list[str]) -> None:
    together = label_text("\n\n".join(texts))
    apart = [label_text(text) for text in texts]
    if any("stable" in text.lower() or ":" in text for text in texts):
        return
    for label in LABELS[1:]:
        single = {labels[label] for labels in apart if label in labels}
        expected = next((p for p in ("positive", "uncertain", "negative") if p in single), None)
        assert together.get(label) == expected


def test_speed() -> None:
    """An idle machine labels more than 1000 reports a second; a tenth must do here."""
    report = (
        "Heart size is normal. No effusion or pneumothorax. Left basilar opacity may represent "
    )
    report += "atelectasis or pneumonia, unchanged from the prior study. PICC tip in the SVC. "
    label_text(report)
    start = time.perf_counter()
    for _ in range(200):
        label_text(report)
    assert 200 / (time.perf_counter() - start) > 100
