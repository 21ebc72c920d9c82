"""Contradicting sentences of one text are found, and no others."""

import pytest

from rag.grounding.claims import contradictions


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        (("No pleural effusion.", "There is a left pleural effusion."), ((0, 1),)),
        (("The lungs are clear.", "Heart size is normal.", "Right lower lobe opacity."), ((0, 2),)),
        (("The heart is enlarged.", "Heart size is normal."), ((0, 1),)),
        (("No pneumothorax.", "Small right apical pneumothorax."), ((0, 1),)),
        # no contradictions
        (("No left pleural effusion.", "There is a right pleural effusion."), ()),
        (("Right lower lobe opacity.", "The lungs are otherwise clear."), ()),
        (("No large pleural effusion.", "Small left pleural effusion."), ()),
        (("Left pleural effusion.", "Right pleural effusion."), ()),
        (("The heart is enlarged.", "No pneumothorax."), ()),
        ((), ()),
        (("",), ()),
    ],
)
def test_contradictions(sentences: tuple[str, ...], expected: tuple[tuple[int, int], ...]) -> None:
    assert contradictions(sentences) == expected
    swapped = contradictions(sentences[::-1])
    last = len(sentences) - 1
    assert {tuple(sorted((last - a, last - b))) for a, b in swapped} == set(expected)
