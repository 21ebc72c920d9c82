"""What a film is expected to show: label probabilities of the image, and what they decide.

Stands between the label head, which knows vectors, and the steps that choose evidence, which know
only labels. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rag.language.assertion import Polarity


@dataclass(frozen=True, slots=True)
class Expectation:
    """Labels of one film.

    Attributes:
        probabilities: label -> calibrated probability in [0, 1]. Labels that are not here are not
            judged: the film neither expects nor denies them.
        present: labels taken as present, most probable first.
        normal: whether a report without any finding would not surprise. Can go together with
            labels that are present: both are guesses.
    """

    probabilities: Mapping[str, float] = field(default_factory=dict)
    present: tuple[str, ...] = ()
    normal: bool = False

    def contradicts(self, stated: Mapping[str, Polarity]) -> bool:
        """Whether a text with these labels says the opposite of what the film is expected to show.

        It denies what is expected, or claims (perhaps with a doubt) what is not.
        """
        return any(
            (polarity is Polarity.NEGATIVE) == (label in self.present)
            for label, polarity in stated.items()
            if label in self.probabilities
        )

    def states(self, stated: Mapping[str, Polarity]) -> int:
        """How many of the expected labels a text with these labels states as present."""
        return sum(stated.get(label) is Polarity.POSITIVE for label in self.present)


NOTHING_KNOWN = Expectation()
"""Of a film without a label head: contradicts nothing, expects nothing."""
