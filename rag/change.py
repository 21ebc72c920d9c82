"""What became of each finding since the prior, by the prior report and the current probabilities.

Experimental. A verdict is given only where it was right often enough on held-out image pairs
(`experiments/change.py` fits and measures it; results in docs/priors.md), else "cannot tell".
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from rag.encoder_parts import RESTORE_HINT, read_json, require_encoder
from rag.report_nlp.labeller import NO_FINDING, blank_non_image_sections
from rag.report_nlp.lexicon import findings
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.statements import statements_of
from rag.schema import PredictedFindings

CHANGE_FILE = "change.json"
VERSION = 1
PROBABILITY_FLOOR = 1e-3
"""Probabilities are clipped to this and its complement before they become log-odds."""


class Change(StrEnum):
    """What became of a finding. Only sentences say worse or better, never verdicts."""

    NEW = "new"
    PERSISTS = "persists"
    RESOLVED = "resolved"
    WORSE = "worse"
    BETTER = "better"
    CANNOT_TELL = "cannot tell"


_CHANGE_PATTERNS = {
    change: re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    for change, words in {
        Change.NEW: r"new|newly|(?:has|have) (?:developed|appeared)|development",
        Change.RESOLVED: r"no longer|resolved|resolution|cleared|disappeared|removed",
        Change.WORSE: r"increas\w+|worse\w*|enlarg(?:ing|ement)|larger|progress\w+|more extensive",
        Change.BETTER: r"decreas\w+|improv\w+|smaller|better|reduc\w+|diminish\w+|regress\w+|less",
        Change.PERSISTS: r"again|persist\w*|remain\w*|still|continu\w+|residual|re-?demonstrated",
        # that a finding is as large as before is more than any verdict says
        Change.CANNOT_TELL: r"unchanged|stable|similar|same|constant|change|recurren\w+",
    }.items()
}


def stated_changes(text: str) -> frozenset[Change]:
    """The kinds of change that a sentence speaks of."""
    return frozenset(change for change, pattern in _CHANGE_PATTERNS.items() if pattern.search(text))


class PriorState(StrEnum):
    """What a prior report says of a finding."""

    PRESENT = "present"
    POSSIBLE = "possible"
    ABSENT = "absent"
    NOT_MENTIONED = "not mentioned"
    NO_REPORT = "no report"


@dataclass(frozen=True, slots=True)
class FindingChange:
    """One finding in the prior and in the current study.

    Attributes:
        finding: CheXpert-14 label, or id of the lexicon.
        prior_probability: in the prior image, in [0, 1]; None if it was not predicted.
        probability: in the current image, in [0, 1]; None if it was not predicted.
        certainty: probability that the verdict is right, in [0, 1]; None for "cannot tell".
    """

    finding: str
    prior_report: PriorState
    prior_probability: float | None
    probability: float | None
    verdict: Change = Change.CANNOT_TELL
    certainty: float | None = None

    @property
    def name(self) -> str:
        """For display: "pleural effusion"."""
        return self.finding.replace("_", " ").lower()

    def __str__(self) -> str:
        """As in "edema: resolved (0.81); prior report: present; image then 0.70, now 0.12"."""
        certainty = "" if self.certainty is None else f" ({self.certainty:.2f})"
        before, now = (
            "not known" if p is None else f"{p:.2f}"
            for p in (self.prior_probability, self.probability)
        )
        report = f"prior report: {self.prior_report}"
        return f"{self.name}: {self.verdict}{certainty}; {report}; image then {before}, now {now}"


@dataclass(frozen=True, slots=True)
class ChangeModel:
    """Logistic regressions fitted on pairs of images of one patient.

    The prior image is no input: with it, verdicts were worse (docs/experiments.md).

    Attributes:
        encoder_id: of the encoder whose finding head gave the probabilities.
        present_now: bias and slope of the current log-odds, by prior state ("absent", "present")
            and finding.
        limits: lowest certainty at which a verdict is given; a verdict without one never is.
    """

    encoder_id: str
    present_now: Mapping[str, Mapping[str, Sequence[float]]]
    limits: Mapping[str, float]

    def verdict(
        self, finding: str, prior: PriorState, probability: float
    ) -> tuple[Change, float] | None:
        """The likeliest change and its certainty; None if this finding or state was not fitted."""
        state = PriorState.ABSENT if prior is PriorState.NOT_MENTIONED else prior
        if finding not in self.present_now.get(state, {}):
            return None
        bias, slope = self.present_now[state][finding]
        p = min(max(probability, PROBABILITY_FLOOR), 1 - PROBABILITY_FLOOR)
        present = 1 / (1 + math.exp(-bias - slope * math.log(p / (1 - p))))
        if state is PriorState.ABSENT:
            return Change.NEW, present
        return (Change.PERSISTS, present) if present >= 0.5 else (Change.RESOLVED, 1 - present)


@dataclass(frozen=True, slots=True)
class PriorEvidence:
    """What a prior contributes to a draft; holds no header and no image.

    Attributes:
        report: its text, without names and prompt injections; empty without one.
        images: number of images read.
        days_before: days from the prior to the current study; None if a date is missing.
        changes: as `compare_findings` returns them.
    """

    report: str = ""
    images: int = 0
    days_before: int | None = None
    changes: tuple[FindingChange, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As in docs/predictions.md."""
        return {
            "report": bool(self.report),
            "images": self.images,
            "days_before": self.days_before,
            "changes": [
                {
                    name: round(value, 4) if isinstance(value, float) else value
                    for name, value in asdict(change).items()
                }
                for change in self.changes
            ],
        }


NO_PRIOR_EVIDENCE = PriorEvidence()


def compare_findings(
    report: str | None,
    prior: PredictedFindings,
    current: PredictedFindings,
    model: ChangeModel | None,
) -> tuple[FindingChange, ...]:
    """Compare all findings that the prior report or either image speaks for.

    Args:
        report: text of the prior report; None without one.
        prior: findings of the prior image, only shown beside the verdict.
        current: findings of the current image.
        model: of the encoder; without one there are no verdicts.

    Returns:
        Those with a verdict first, the most certain first.
    """
    states = prior_states(report) if report else {}
    unstated = PriorState.NOT_MENTIONED if report else PriorState.NO_REPORT
    rows = []
    for name in dict.fromkeys((*states, *prior.probabilities, *current.probabilities)):
        if name == NO_FINDING or name in _concepts_with_a_label():
            continue
        state = states.get(name, unstated)
        probability = current.probabilities.get(name)
        verdict: tuple[Change, float | None] = (Change.CANNOT_TELL, None)
        if model and probability is not None and name not in current.not_assessable:
            likeliest = model.verdict(name, state, probability)
            if likeliest and likeliest[1] >= model.limits.get(likeliest[0], math.inf):
                verdict = likeliest
        row = FindingChange(name, state, prior.probabilities.get(name), probability, *verdict)
        if (
            row.verdict is not Change.CANNOT_TELL
            or state in (PriorState.PRESENT, PriorState.POSSIBLE)
            or name in (*prior.positive, *current.positive)
        ):
            rows.append(row)

    def rank(row: FindingChange) -> tuple[bool, float, float, str]:
        unknown = row.verdict is Change.CANNOT_TELL
        return unknown, -(row.certainty or 0), -(row.probability or 0), row.finding

    return tuple(sorted(rows, key=rank))


def prior_states(report: str) -> dict[str, PriorState]:
    """State of each finding that a report mentions; present wins over possible over absent."""
    statements = statements_of(blank_non_image_sections(report))
    states = {
        Polarity.NEGATIVE: PriorState.ABSENT,
        Polarity.UNCERTAIN: PriorState.POSSIBLE,
        Polarity.POSITIVE: PriorState.PRESENT,
    }
    return {s.name: states[p] for p in states for s in statements if s.polarity is p}


@lru_cache(maxsize=1)
def _concepts_with_a_label() -> frozenset[str]:
    """Lexicon ids that a CheXpert-14 label covers."""
    return frozenset(finding.concept for finding in findings() if finding.label)


def read_change_model(folder: Path, encoder_id: str) -> ChangeModel | None:
    """The model in an encoder's folder; None if there is none.

    Raises:
        CalibrationError: it is damaged, or has another format version.
        EncoderUnavailableError: it was fitted for another encoder.
    """
    path = folder / CHANGE_FILE
    if not path.is_file():
        return None
    model = read_json(path, ChangeModel, version=VERSION, hint=RESTORE_HINT)
    require_encoder(path, model.encoder_id, encoder_id, hint=RESTORE_HINT)
    return model
