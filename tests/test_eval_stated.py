"""The measures of stated findings, on texts written for the purpose."""

import numpy as np
import pytest

from eval.metrics.base import Setup
from eval.metrics.findings import StatedFindings
from eval.studies import Pair
from eval.text import COCO_PTB

SETUP = Setup(COCO_PTB, ())


def scores(*texts: tuple[str, str]) -> dict[str, float]:
    pairs = [Pair(str(n), reference, draft) for n, (reference, draft) in enumerate(texts)]
    rows = StatedFindings(SETUP).score(pairs).sum(0)
    return {measure.name: float(measure.combine(rows)) for measure in StatedFindings.measures}


def test_a_finding_that_the_reference_lacks_is_false() -> None:
    found = scores(
        ("The lungs are clear.", "The heart is enlarged."),
        ("The heart is enlarged.", "The heart is enlarged."),
        ("There is a pleural effusion.", "The lungs are clear."),
        ("The lungs are clear.", "The lungs are clear."),
    )
    assert found["false-finding drafts"] == 0.25
    assert found["precision of stated findings"] == 0.5
    assert found["recall of stated findings"] == 0.5
    assert found["missed must-not-miss findings"] == 1.0
    assert found["denied must-not-miss findings"] == 0.0


def test_denying_a_must_not_miss_finding_is_counted() -> None:
    found = scores(("Large right pneumothorax.", "No pneumothorax."))
    assert found["denied must-not-miss findings"] == 1.0


@pytest.mark.parametrize(
    ("draft", "measure", "expected"),
    [
        ("Small left pleural effusion.", "accuracy of side", 0.0),
        ("Small right pleural effusion.", "accuracy of side", 1.0),
        ("Bilateral pleural effusions.", "accuracy of side", 1.0),
        ("Large right pleural effusion.", "accuracy of severity", 0.0),
        ("Small right pleural effusion.", "accuracy of severity", 1.0),
    ],
)
def test_details_are_compared_if_both_texts_state_them(
    draft: str, measure: str, expected: float
) -> None:
    assert scores(("Small right pleural effusion.", draft))[measure] == expected


def test_details_in_one_text_only_are_not_counted() -> None:
    found = scores(("Right pleural effusion.", "Pleural effusion."))
    assert np.isnan(found["accuracy of side"])


def test_kind_and_precision_of_devices() -> None:
    found = scores(
        ("A right PICC is present.", "A right PICC is present."),
        ("A right PICC is present.", "A tracheostomy tube is present."),
        ("The lungs are clear.", "A pacemaker is present."),
    )
    assert found["accuracy of device kind"] == 0.5
    assert found["precision of stated devices"] == pytest.approx(2 / 3)


def test_edit_distance_in_words() -> None:
    assert scores(("Lungs are clear.", "Lungs are very clear."))["edit distance in words"] == 1
    assert scores(("Lungs are clear.", ""))["edit distance in words"] == 3
