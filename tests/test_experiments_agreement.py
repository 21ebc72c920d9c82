"""Agreement of retrieved reports with the images' own, against numbers worked out by hand."""

import numpy as np
import pytest

from eval.tasks.common import numbers_of
from experiments.agreement import agreement_figures, difference, nearest, overlap
from experiments.validate_encoder import as_markdown, rank_figures

NAMES = ["a", "b", "normal"]
SAID = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
TRUTH = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
HITS = np.array([[0, 0, 0, 0, 1], [1, 1, 2, 2, 3], [2, 2, 2, 3, 0]])


def values(weights: list[float], hits: np.ndarray = HITS) -> dict[str, float]:
    figures = agreement_figures(hits, said=SAID, truth=TRUTH, names=NAMES, shown=["normal", "c"])
    found = {}
    for figure in figures:
        found |= dict(zip(figure.names, figure.values(np.array([weights]))[0], strict=True))
    return found


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_the_measures_by_hand() -> None:
    """Votes for a and b are .8 .2, 0 .4 and .2 0; normal does not count as a finding."""
    found = values([1, 1, 1])
    assert found["finding found"] == pytest.approx(3 / 3)
    assert found["mention right"] == pytest.approx((0.8 + 0.2 + 0.4) / 1.6)
    assert found["F1 (2 of 5 say so)"] == pytest.approx(2 * 2 / (2 + 3))
    assert found["AUC normal (n=1)"] == 1.0
    assert np.isnan(found["macro AUC"]), "no finding has five images"
    assert values([1, 0, 0])["F1 (2 of 5 say so)"] == pytest.approx(2 / 3)


def test_overlap_counts_shared_labels_among_all() -> None:
    said = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1]], dtype=bool)
    truth = np.array([[1, 0, 0], [0, 0, 0]], dtype=bool)
    hits = np.array([[0, 2], [1, 0]])
    np.testing.assert_allclose(overlap(hits, said, truth), [(0.5 + 0) / 2, (1 + 0) / 2])


def test_nearest_is_best_first_and_breaks_ties_by_column() -> None:
    similarity = np.array([[0.1, 0.9, 0.9, 0.5]])
    assert nearest(similarity, 3).tolist() == [[1, 2, 3]]


def test_an_equal_text_is_the_own_report_and_counts_once() -> None:
    similarity = np.array([[0.9, 0.9, 0.8], [0.9, 0.9, 0.1], [0.9, 0.9, 0.2]])
    recalls, median = rank_figures(similarity, ["same", "same", "other"])
    ones = np.ones((1, 3))
    found = dict(zip(recalls.names, recalls.values(ones)[0], strict=True))
    assert found["R@1"] == pytest.approx(2 / 3)
    assert found["R@5"] == 1.0
    assert median.values(ones).tolist() == [[1.0]]


def test_a_system_does_not_differ_from_itself_and_the_table_is_markdown() -> None:
    (figure, *_) = agreement_figures(HITS, said=SAID, truth=TRUTH, names=NAMES)
    facts = {"subset": "val", "patients": ["1", "2", "3"], "samples": 20, "seed": 0}
    same = numbers_of(difference(figure, figure), system="same", **facts)
    assert (same[0].value, same[0].low, same[0].high) == (0, 0, 0)
    assert as_markdown(same).splitlines() == [
        "| | same |",
        "|---|---|",
        "| label overlap | 0.000 [0.000, 0.000] |",
    ]
