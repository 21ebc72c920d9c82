"""What an image is expected to show: label probabilities of the image, and what they decide.

Stands between the label head, which knows vectors, and the steps that choose evidence, which know
only labels. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rag.report_nlp.assertion import Polarity


@dataclass(frozen=True, slots=True)
class PredictedFindings:
    """Labels of one image.

    Attributes:
        probabilities: label -> calibrated probability in [0, 1]. Labels that are not here are not
            judged: the image neither expects nor denies them.
        positive: labels taken as positive, most probable first.
        normal: whether a report without any finding would not surprise. Can go together with
            labels that are positive: both are guesses.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    positive: tuple[str, ...] = ()
    normal: bool = False

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
        """How many of the expected labels a text with these labels states as positive."""
        return sum(stated.get(label) is Polarity.POSITIVE for label in self.positive)


NO_PREDICTION = PredictedFindings()
"""Of an image without a label head: conflicts_with nothing, expects nothing."""
