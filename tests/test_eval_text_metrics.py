"""Word overlap metrics agree with the reference implementations.

`tests/golden/text_metrics.json` was made by `tests/golden/make_text_metrics.py` with pycocoevalcap
1.2 (its own tokeniser, BLEU, ROUGE and CIDEr-D) and with sacrebleu and rouge-score alone.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.base import MetricGroup, Setup, SufficientStats, metric_class
from eval.studies import Pair
from eval.text import CLEANINGS, COCO_PTB, R2GEN

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "text_metrics.json").read_text(encoding="utf-8"))
PAIRS = [
    Pair(row["id"], row["reference"], row["draft"])
    for row in map(json.loads, (GOLDEN / "text_pairs.jsonl").read_text("utf-8").splitlines())
]
SETUP = Setup(COCO_PTB, tuple(pair.reference for pair in PAIRS))

needs_pycocoevalcap = pytest.mark.skipif(
    find_spec("pycocoevalcap") is None, reason="pycocoevalcap 1.2 is not installed"
)


def scores(metric: MetricGroup, pairs: list[Pair]) -> dict[str, tuple[float, SufficientStats]]:
    """By measure: the score of all pairs together, and of each pair."""
    rows = metric.score(pairs)
    return {m.name: (float(m.combine(rows.sum(axis=0))), m.combine(rows)) for m in metric.measures}


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.study_id)
def test_words_equal_those_of_the_reference_tokeniser(pair: Pair) -> None:
    words = EXPECTED["words"][pair.study_id]
    assert COCO_PTB.clean(pair.reference) == words["reference"]
    assert COCO_PTB.clean(pair.draft) == words["draft"]


@pytest.mark.parametrize("key", ["bleu", "rouge", "cider"])
def test_scores_equal_those_of_the_reference_implementation(key: str) -> None:
    for name, (whole, by_pair) in scores(metric_class(key)(SETUP), PAIRS).items():
        assert whole == pytest.approx(EXPECTED["all"][name], rel=1e-8), name
        # pycocoevalcap smooths a single sentence without a match to something just above 0
        expected = np.array(EXPECTED["each"][name])
        assert by_pair[by_pair > 0] == pytest.approx(expected[by_pair > 0], rel=1e-6), name
        assert np.all(expected[by_pair == 0] < 2e-3), name


def test_bleu_equals_sacrebleus() -> None:
    whole, _ = scores(metric_class("bleu")(SETUP), PAIRS)["BLEU-4"]
    assert whole == pytest.approx(EXPECTED["all"]["sacrebleu BLEU-4"], rel=1e-12)


VOCABULARY = ["no", "lung", "clear", "left", "right", "effusion", "small"]
WORDS = st.lists(st.sampled_from(VOCABULARY), max_size=12)
TEXTS = st.lists(st.tuples(WORDS.filter(bool), WORDS), min_size=2, max_size=8)


@needs_pycocoevalcap
@settings(max_examples=60)
@given(TEXTS)
def test_random_words_score_as_in_pycocoevalcap(texts: list[tuple[list[str], list[str]]]) -> None:
    from pycocoevalcap.bleu.bleu import Bleu  # noqa: PLC0415
    from pycocoevalcap.cider.cider import Cider  # noqa: PLC0415
    from pycocoevalcap.rouge.rouge import Rouge  # noqa: PLC0415

    pairs = [Pair(str(i), " ".join(ref), " ".join(draft)) for i, (ref, draft) in enumerate(texts)]
    references = {pair.study_id: [pair.reference] for pair in pairs}
    drafts = {pair.study_id: [pair.draft] for pair in pairs}
    setup = Setup(COCO_PTB, tuple(pair.reference for pair in pairs))

    def theirs(scorer: Any, **options: int) -> Any:
        return scorer.compute_score(references, drafts, **options)[0]

    bleu = scores(metric_class("bleu")(setup), pairs)
    for n, expected in enumerate(theirs(Bleu(4), verbose=0), 1):
        if (found := bleu[f"BLEU-{n}"][0]) > 0:
            assert found == pytest.approx(expected, rel=1e-6)
        else:
            assert expected < 0.02  # its smoothing
    if all(draft for _, draft in texts):  # pycocoevalcap's ROUGE divides by an empty draft's length
        found = scores(metric_class("rouge")(setup), pairs)["ROUGE-L β1.2"][0]
        assert found == pytest.approx(theirs(Rouge()), rel=1e-9)
    if len(set(setup.references)) > 1:  # CIDEr-D needs two distinct texts
        found = scores(metric_class("cider")(setup), pairs)["CIDEr-D"][0]
        assert found == pytest.approx(theirs(Cider()), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("key", ["bleu", "rouge", "cider", "labels"])
def test_a_missing_draft_scores_the_worst_and_a_perfect_one_the_best(key: str) -> None:
    metric = metric_class(key)(SETUP)
    missing = [Pair(pair.study_id, pair.reference, "") for pair in PAIRS]
    perfect = [Pair(pair.study_id, pair.reference, pair.reference) for pair in PAIRS]
    best = scores(metric, perfect)
    for measure in metric.measures:
        whole, _ = scores(metric, missing)[measure.name]
        assert whole == measure.worst, measure.name
        if "macro" not in measure.name:  # an absent label counts 0 there
            assert best[measure.name][0] == pytest.approx(measure.high), measure.name


@settings(max_examples=200)
@given(st.text())
def test_no_cleaning_gives_words_with_white_space(text: str) -> None:
    for cleaning in CLEANINGS.values():
        words = cleaning.words(text)
        assert all(word and not any(c.isspace() for c in word) for word in words)
        assert "\n" not in cleaning.clean(text)


def test_r2gen_cleaning() -> None:
    words = R2GEN.words("1. No effusion.. 2. A 1.5 cm (left-sided) nodule.\nDone")
    assert words == [
        "no",
        "effusion",
        ".",
        "a",
        "15",
        "cm",
        "left-sided",
        "nodule",
        ".",
        "done",
        ".",
    ]
