"""The score cache: nothing is scored twice, and no stale row is used."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from eval.cache import ScoreCache, content_key
from eval.errors import EvalDataError
from eval.metrics.base import Direction, MetricGroup, SufficientStats, mean_measure, mean_rows
from eval.studies import Evidence, Pair
from rag.schema import DraftSentence


class LengthMetric(MetricGroup):
    """A fake metric that counts the pairs it scores."""

    key = "length"
    card: ClassVar = {"words": "blanks"}
    measures = (mean_measure("length", Direction.NONE, column=0, high=float("inf")),)
    width = 2
    batch_size = 3

    def __init__(self, fail_after: int = 1_000) -> None:
        self.scored = 0
        self._left = fail_after

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        if self._left < len(pairs):
            raise RuntimeError("the plug was pulled")
        self._left -= len(pairs)
        self.scored += len(pairs)
        return mean_rows([[len(pair.draft)] for pair in pairs])


PAIRS = [Pair(str(n), "reference", "x" * n) for n in range(10)]


def test_cached_pairs_are_not_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "scores.sqlite"
    first, again = LengthMetric(), LengthMetric()
    with ScoreCache(path) as cache:
        rows = cache.rows(first, [*PAIRS, *PAIRS])
    with ScoreCache(path) as cache:
        assert np.array_equal(cache.rows(again, PAIRS), rows[:10])
    assert (first.scored, again.scored) == (10, 0)


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    with ScoreCache(path) as cache, pytest.raises(RuntimeError, match="plug"):
        cache.rows(LengthMetric(fail_after=7), PAIRS)
    rest = LengthMetric()
    with ScoreCache(path) as cache:
        rows = cache.rows(rest, PAIRS)
    assert rest.scored == 4  # two batches of three were kept
    assert rows[:, 0].tolist() == list(range(10))


def test_the_cache_key_covers_everything_a_score_depends_on() -> None:
    metric = LengthMetric()
    base = Pair("1", "ab", "c")
    key = content_key(metric, base)
    assert content_key(metric, Pair("another study", "ab", "c")) == key
    assert content_key(metric, Pair("1", "a", "bc")) != key
    evidence = Pair("1", "ab", "c", (DraftSentence("c", ("R",)),), (Evidence("R", "c"),))
    assert content_key(metric, evidence) == key
    metric.uses_evidence = True
    assert content_key(metric, evidence) != content_key(metric, base)
    metric.uses_evidence = False
    metric.version = "2"
    assert content_key(metric, base) != key


def test_a_file_that_is_not_a_cache_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(EvalDataError, match=r"cannot write .*scores\.sqlite"):
        ScoreCache(path)


def test_a_row_of_another_width_is_scored_again(tmp_path: Path) -> None:
    path = tmp_path / "scores.sqlite"
    with ScoreCache(path) as cache:
        cache.rows(LengthMetric(), PAIRS)
        cache._db.execute("UPDATE scores SET stats = x'00'")
        cache._db.commit()
        metric = LengthMetric()
        assert cache.rows(metric, PAIRS)[:, 0].tolist() == list(range(10))
        assert metric.scored == 10
