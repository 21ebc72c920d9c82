"""ROUGE-L by bit-parallel LCS, against the textbook recurrence."""

import numpy as np
import pytest

from rag.drafting.text_similarity import RougeLScorer


def lcs(a: list[str], b: list[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = row[:]
        for at, other in enumerate(b, 1):
            row[at] = before[at - 1] + 1 if word == other else max(before[at], row[at - 1])
    return row[-1]


def test_every_draft_with_every_reference() -> None:
    rng = np.random.default_rng(0)
    texts = [list(rng.choice(list("abcde"), size)) for size in (0, 1, 20, 63, 64)]
    drafts = [[], ["unknown", "words"], *(list(rng.choice(list("abcdef"), n)) for n in (3, 40, 90))]
    expected = [[2 * lcs(d, t) / max(len(d) + len(t), 1) for t in texts] for d in drafts]
    assert RougeLScorer(texts).f1(drafts) == pytest.approx(np.array(expected))


def test_only_the_first_words_of_a_long_reference_are_compared() -> None:
    long = ["a"] * 64 + ["b"] * 10
    assert RougeLScorer([long]).f1([["b"], ["a"]])[0, 0] == 0.0
    assert RougeLScorer([long]).f1([["a"]])[0, 0] == pytest.approx(2 / 75)
