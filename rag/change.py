"""What has changed since a prior: by what its report states and what the current image shows.

Experimental. A verdict is said only where pairs of films of one patient, which nothing was fitted
on, showed that it is right often enough (`experiments/change.py` fits and measures it,
docs/priors.md says how well it does); else it is "cannot tell". Knows no image and no draft.
"""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
SUREST = 1e-3


class Change(StrEnum):
    """What became of a finding. Sentences also say that it is worse or better, verdicts never."""

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
    """One finding then and now.

    Attributes:
        finding: CheXpert-14 name, or id of the lexicon.
        prior_probability: in the prior image, in [0, 1]; None without one, or not predicted.
        probability: in the current image, in [0, 1]; None where it is not predicted.
        certainty: probability that the verdict is right, in [0, 1]; None where it cannot be told.
    """

    finding: str
    prior_report: PriorState
    prior_probability: float | None
    probability: float | None
    verdict: Change = Change.CANNOT_TELL
    certainty: float | None = None

    @property
    def name(self) -> str:
        """As it is read: "pleural effusion"."""
        return self.finding.replace("_", " ").lower()

    def __str__(self) -> str:
        """As in "edema: resolved (0.81); prior report: present; image then 0.70, now 0.12"."""
        sure = "" if self.certainty is None else f" ({self.certainty:.2f})"
        then, now = (
            "not known" if p is None else f"{p:.2f}"
            for p in (self.prior_probability, self.probability)
        )
        report = f"prior report: {self.prior_report}"
        return f"{self.name}: {self.verdict}{sure}; {report}; image then {then}, now {now}"


@dataclass(frozen=True, slots=True)
class ChangeModel:
    """A few numbers, fitted on pairs of films of one patient.

    The prior image has no weight in them: with it, they told less (docs/experiments.md).

    Attributes:
        encoder_id: of the encoder whose head made the probabilities.
        present_now: by what was (absent, present) and finding: bias and slope of the current
            log-odds for its being there now. Findings that are not here cannot be told.
        limits: certainty from which a verdict is said; those that are not here never are.
    """

    encoder_id: str
    present_now: Mapping[str, Mapping[str, Sequence[float]]]
    limits: Mapping[str, float]

    def verdict(self, finding: str, was: PriorState, probability: float) -> tuple[Change, float]:
        """What became of a finding that a report stated or did not, and how certain that is.

        Raises:
            KeyError: it cannot be told of this finding, or not from this state.
        """
        state = PriorState.ABSENT if was is PriorState.NOT_MENTIONED else was
        bias, slope = self.present_now[state][finding]
        p = min(max(probability, SUREST), 1 - SUREST)
        there = 1 / (1 + math.exp(-bias - slope * math.log(p / (1 - p))))
        if state is PriorState.ABSENT:
            return Change.NEW, there
        return (Change.PERSISTS, there) if there >= 0.5 else (Change.RESOLVED, 1 - there)


@dataclass(frozen=True, slots=True)
class PriorEvidence:
    """What a prior contributes to a draft. Holds no header and no image.

    Attributes:
        report: its text, without names and without what speaks to a model; empty without one.
        images: how many of its images were read.
        days_before: days between it and the image; None where a date is missing.
        changes: what became of each finding.
    """

    report: str = ""
    images: int = 0
    days_before: int | None = None
    changes: tuple[FindingChange, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Its part of the public JSON object; docs/predictions.md."""
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
"""Of a study without a prior: nothing is told."""


def compare_findings(
    report: str | None,
    prior: PredictedFindings,
    current: PredictedFindings,
    model: ChangeModel | None,
) -> tuple[FindingChange, ...]:
    """What became of each finding that the prior report or either image speaks for.

    Args:
        report: text of the prior report; None without one.
        prior: findings of the prior image, for showing; without probabilities where there is none.
        current: findings of the current image.
        model: of the encoder; None: nothing can be told.

    Returns:
        First what has changed or persists, most certain first, then what cannot be told.
    """
    states = prior_states(report) if report else {}
    silent = PriorState.NOT_MENTIONED if report else PriorState.NO_REPORT
    rows = []
    for name in dict.fromkeys((*states, *prior.probabilities, *current.probabilities)):
        if name == NO_FINDING or name in _concepts_with_a_label():
            continue
        state = states.get(name, silent)
        now, before = current.probabilities.get(name), prior.probabilities.get(name)
        verdict: tuple[Change, float | None] = (Change.CANNOT_TELL, None)
        if model and now is not None and name not in current.not_assessable:
            with suppress(KeyError):
                found, certainty = model.verdict(name, state, now)
                if certainty >= model.limits.get(found, math.inf):
                    verdict = found, certainty
        row = FindingChange(name, state, before, now, *verdict)
        shown = state in (PriorState.PRESENT, PriorState.POSSIBLE)
        shown = shown or name in (*prior.positive, *current.positive)
        if shown or row.verdict is not Change.CANNOT_TELL:
            rows.append(row)
    rows.sort(key=lambda row: (-(row.certainty or 0), -(row.probability or 0), row.finding))
    return tuple(sorted(rows, key=lambda row: row.verdict is Change.CANNOT_TELL))


def prior_states(report: str) -> dict[str, PriorState]:
    """What a report says of each finding that it mentions; present wins over possible."""
    read = statements_of(blank_non_image_sections(report))
    ranked = {
        Polarity.NEGATIVE: PriorState.ABSENT,
        Polarity.UNCERTAIN: PriorState.POSSIBLE,
        Polarity.POSITIVE: PriorState.PRESENT,
    }
    return {s.name: ranked[p] for p in ranked for s in read if s.polarity is p}


@lru_cache(maxsize=1)
def _concepts_with_a_label() -> frozenset[str]:
    """Lexicon ids that a CheXpert-14 name stands for."""
    return frozenset(each.concept for each in findings() if each.label)


def read_change_model(folder: Path, encoder_id: str) -> ChangeModel | None:
    """The model in an encoder's folder; None where there is none.

    Raises:
        CalibrationError: it is damaged, or of another version.
        EncoderUnavailableError: it was made for other weights.
    """
    path = folder / CHANGE_FILE
    if not path.is_file():
        return None
    model = read_json(path, ChangeModel, version=VERSION, hint=RESTORE_HINT)
    require_encoder(path, model.encoder_id, encoder_id, hint=RESTORE_HINT)
    return model
