"""The labeller on kinds of sentences that other public tools label wrongly.

Sentences of each kind, and counterexamples, were written by hand before the rules were changed and
split in halves by a hash; the errors of the held-out half were never looked at. The split
"public-later" was written afterwards in parts, each scored once before its errors were corrected;
of the last part it has the sentences that were labelled wrongly at first. See docs/grounding.md.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from rag.report_nlp.labeller import label_text
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.statements import Side, parse_sentence

GOLDEN = Path(__file__).parent / "golden" / "labeller_public.jsonl"
CASES = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").split("\n") if line]
KINDS = sorted({case["category"] for case in CASES})
ABSENT = "absent"


def labelled(text: str) -> dict[str, str]:
    return {label: polarity.value for label, polarity in label_text(text).items()}


def mislabelled(split: str, kind: str) -> tuple[list[str], int]:
    cases = [case for case in CASES if (case["split"], case["category"]) == (split, kind)]
    return [case["text"] for case in cases if labelled(case["text"]) != case["labels"]], len(cases)


@pytest.mark.parametrize("kind", KINDS)
def test_development_sentences(kind: str) -> None:
    for split in ("public-dev", "public-later"):
        errors, count = mislabelled(split, kind)
        assert count >= 10
        assert not errors


def test_held_out_sentences() -> None:
    errors, counts = zip(*(mislabelled("public-held-out", kind) for kind in KINDS), strict=True)
    assert sum(counts) >= 100
    assert sum(map(len, errors)) / sum(counts) <= 0.05  # does not show which


def test_every_category_has_counterexamples() -> None:
    assert len({case["text"] for case in CASES}) == len(CASES)
    polarities = Counter(
        (case["category"], value) for case in CASES for value in case["labels"].values()
    )
    for kind in KINDS:
        assert polarities[kind, "positive"] >= 5, kind
        assert polarities[kind, "negative"] >= 1, kind


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("No pneumothorax on the right; a small one on the left.", Side.LEFT),
        ("Pneumothorax: none on the left, a tiny one on the right.", Side.RIGHT),
        ("No left pneumothorax, but there is one on the right.", Side.RIGHT),
    ],
)
def test_a_pronoun_has_its_own_side(text: str, side: Side) -> None:
    (found,) = (s for s in parse_sentence(text).statements if s.polarity is Polarity.POSITIVE)
    assert found.label == "Pneumothorax"
    assert found.sides == {side}


def test_forms_can_be_parsed_as_one_sentence() -> None:
    for gap in ("\n", " "):
        form = f"Pleural effusion: yes{gap}Pneumothorax: no{gap}Consolidation: no"
        found = {s.label: s.polarity for s in parse_sentence(form).statements}
        assert found == {
            "Pleural Effusion": Polarity.POSITIVE,
            "Pneumothorax": Polarity.NEGATIVE,
            "Consolidation": Polarity.NEGATIVE,
        }


@pytest.mark.parametrize(
    ("text", "label", "polarity"),
    [
        # one sentence asks, the next answers
        ("Effusion? No.", "Pleural Effusion", "negative"),
        ("Effusion? Yes.", "Pleural Effusion", "positive"),
        ("Effusion? Heart is normal.", "Pleural Effusion", "uncertain"),
        ("There is an effusion. None of the above.", "Pleural Effusion", "positive"),
        # a pronoun needs an antecedent that was denied of one side
        ("No effusion. One is seen on the left.", "Pleural Effusion", "negative"),
        ("No right effusion. One lead lies on the left.", "Pleural Effusion", "negative"),
        # an incomplete phrase continues after a capital
        ("No Swan-Ganz catheter", "Support Devices", "negative"),
        ("No effusion on the Left", "Pleural Effusion", "negative"),
        ("Pleura: no Effusion seen", "Pleural Effusion", "negative"),
        ("Pneumothorax: no Effusion: yes", "Pneumothorax", "negative"),
        # a condition ends where the sentence states something
        ("Unless otherwise stated, no effusion.", "Pleural Effusion", "negative"),
        ("If compared with the last film, the effusion is larger.", "Pleural Effusion", "positive"),
        # whole reports: a heading or a header's first sentence ends there, a list may follow one
        ("Comparison: 3/4. Effusion no longer seen.", "Pleural Effusion", "negative"),
        ("HISTORY: Effusion. CHEST: No effusion.", "Pleural Effusion", "negative"),
        ("HISTORY: 50 y/o with pneumonia. Heart is large.", "Pneumonia", ABSENT),
        ("HISTORY: 50 y/o with pneumonia.\nHeart is large.", "Cardiomegaly", "positive"),
        ("Clinical: CHF? Findings: no edema.", "Edema", "negative"),
        ("FINDINGS: Effusion, fracture: none.\nIMPRESSION: Normal.", "Fracture", "negative"),
        ("FINDINGS: None of these is seen: effusion, edema.", "Pleural Effusion", "negative"),
        ("Lungs are no longer clear: there is an opacity.", "Lung Opacity", "positive"),
        # not a cardiothoracic ratio
        ("Cardiothoracic ratio 5.", "Cardiomegaly", ABSENT),
        ("Cardiothoracic ratio less than 0.6.", "Cardiomegaly", ABSENT),
        # an unticked box before a negation has no effect
        ("[ ] No effusion", "Pleural Effusion", ABSENT),
        ("[ ] Heart normal [x] Heart enlarged", "Cardiomegaly", "positive"),
    ],
)
def test_edges(text: str, label: str, polarity: str) -> None:
    assert labelled(text).get(label, ABSENT) == polarity
