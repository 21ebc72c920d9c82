"""The score cache: nothing is scored twice, nothing wrong is taken for right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from eval.cache import ScoreCache, content_key
from eval.errors import EvalDataError
from eval.io.studies import CitedSentence, Evidence, Pair
from eval.metrics.base import Card, Direction, SufficientStats, mean_measure, mean_rows


class LengthFamily:
    """A fake family that counts what it is asked."""

    key = "length"
    version = "1"
    card = Card("length", "", "blanks", "", "")
    measures = (mean_measure("length", Direction.NONE, column=0, high=float("inf")),)
    width = 2
    batch = 3
    whole_run = False
    reads_evidence = False

    def __init__(self, fail_after: int = 1_000) -> None:
        self.asked = 0
        self._left = fail_after

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        if self._left < len(pairs):
            raise RuntimeError("the plug was pulled")
        self._left -= len(pairs)
        self.asked += len(pairs)
        return mean_rows([[len(pair.draft)] for pair in pairs])


PAIRS = [Pair(str(n), "reference", "x" * n) for n in range(10)]


def test_scoring_again_is_free(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "scores.sqlite"
    with ScoreCache(path) as cache:
        first = cache.rows(LengthFamily(), [*PAIRS, *PAIRS])
        assert (cache.scored, cache.found) == (10, 0)
    again = LengthFamily()
    with ScoreCache(path) as cache:
        assert np.array_equal(cache.rows(again, PAIRS), first[:10])
        assert (cache.scored, cache.found, again.asked) == (0, 10, 0)


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    with ScoreCache(path) as cache, pytest.raises(RuntimeError, match="plug"):
        cache.rows(LengthFamily(fail_after=7), PAIRS)
    rest = LengthFamily()
    with ScoreCache(path) as cache:
        rows = cache.rows(rest, PAIRS)
    assert rest.asked == 4  # two batches of three were kept
    assert rows[:, 0].tolist() == list(range(10))


def test_what_a_score_depends_on_is_in_its_key() -> None:
    family = LengthFamily()
    base = Pair("1", "ab", "c")
    key = content_key(family, base)
    assert content_key(family, Pair("another study", "ab", "c")) == key
    assert content_key(family, Pair("1", "a", "bc")) != key
    evidence = Pair("1", "ab", "c", (CitedSentence("c", ("R",)),), (Evidence("R", "c"),))
    assert content_key(family, evidence) == key
    family.reads_evidence = True
    assert content_key(family, evidence) != content_key(family, base)
    family.reads_evidence = False
    family.version = "2"
    assert content_key(family, base) != key


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(EvalDataError, match="delete it"):
        ScoreCache(path)


def test_a_row_of_another_width_is_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    with ScoreCache(path) as cache:
        cache.rows(LengthFamily(), PAIRS)
        cache._db.execute("UPDATE scores SET stats = x'00'")
        cache._db.commit()
        family = LengthFamily()
        assert cache.rows(family, PAIRS)[:, 0].tolist() == list(range(10))
        assert family.asked == 10
