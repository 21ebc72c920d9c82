"""What an image is expected to show: calibrated probabilities, and what they permit to be said.

Stands between the finding head, which knows vectors, and the steps that choose evidence, which know
only findings. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rag.report_nlp.assertion import Polarity


@dataclass(frozen=True, slots=True)
class PredictedFindings:
    """Findings of one study: CheXpert-14 names, and ids of the lexicon ("granuloma").

    Attributes:
        probabilities: finding -> calibrated probability in [0, 1]. Findings that are not here are
            not judged: the image neither expects nor denies them.
        positive: what a draft may state, most probable first.
        undeniable: must-not-miss findings that are too probable for a draft to deny.
        not_assessable: findings whose probability says little more than chance would.
        normal: whether a report without any finding would not surprise. Can go together with
            positive findings: both are guesses.
        threshold: probability from which a finding is positive.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    positive: tuple[str, ...] = ()
    undeniable: frozenset[str] = frozenset()
    not_assessable: frozenset[str] = frozenset()
    normal: bool = False
    threshold: float = 0.5

    def conflicts_with(self, stated: Mapping[str, Polarity]) -> bool:
        """Whether a text with these labels says the opposite of what the image is expected to show.

        It denies what is expected, or claims (perhaps with a doubt) what is not.
        """
        return any(
            (polarity is Polarity.NEGATIVE) == (label in self.positive)
            for label, polarity in stated.items()
            if label in self.probabilities
        )

    def states(self, stated: Mapping[str, Polarity]) -> int:
        """How many of the expected findings a text with these labels states as positive."""
        return sum(stated.get(label) is Polarity.POSITIVE for label in self.positive)


NO_PREDICTION = PredictedFindings()
"""Of an image without a finding head: conflicts with nothing, expects nothing."""
