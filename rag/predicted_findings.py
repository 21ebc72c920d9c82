"""What an image is expected to show: calibrated probabilities, and what they permit to be said.

Stands between the finding head, which knows vectors, and the steps that choose evidence, which know
only findings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rag.report_nlp.labeller import LABELS


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

    @property
    def confidence(self) -> float | None:
        """How far the labels commit themselves: the largest probability; None without labels.

        Of the scores that were tried it orders studies best by what their drafts get right; the
        similarity of the nearest reports orders them the wrong way round, since what abnormal
        images find is nearer and harder to draft.
        """
        return max((p for name, p in self.probabilities.items() if name in LABELS), default=None)


NO_PREDICTION = PredictedFindings()
"""Of an image without a finding head."""
