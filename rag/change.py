"""What has changed since a prior: by its report, its image's probabilities and the current ones.

Experimental. A verdict is said only where pairs of films of one patient, which nothing was fitted
on, showed that it is right often enough (`experiments/change.py` fits and measures it,
docs/priors.md says how well it does); else it is "cannot tell". Knows no image and no draft.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from rag.errors import CalibrationError
from rag.predicted_findings import PredictedFindings
from rag.report_nlp.assertion import Polarity
from rag.report_nlp.labeller import LABELS, NO_FINDING, read_sections
from rag.report_nlp.lexicon import findings
from rag.report_nlp.sentences import sentence_spans
from rag.report_nlp.statements import read_sentence

CHANGE = "change.json"
_FORMAT = 1
_SUREST = 1e-3


class Change(StrEnum):
    """What became of a finding."""

    NEW = "new"
    PERSISTS = "persists"
    RESOLVED = "resolved"
    WORSE = "worse"
    BETTER = "better"
    CANNOT_TELL = "cannot tell"


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
        prior_report: what the prior report says of it.
        prior_probability: in the prior image, in [0, 1]; None without one, or not predicted.
        probability: in the current image, in [0, 1]; None where it is not predicted.
        verdict: what became of it.
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


@dataclass(frozen=True, slots=True)
class ChangeModel:
    """Few numbers, fitted on pairs of films of one patient.

    Attributes:
        encoder_id: of the encoder whose head made the probabilities.
        present_now: by the finding's earlier state (absent, present): bias and weights of the
            current and the prior log-odds for its being there now.
        present_before: the same for its having been there, where no report tells.
        present_now_alone: as ``present_now``, of the current log-odds alone: without a prior image.
        limits: certainty from which a verdict is said; those that are not here never are.
        findings: what was measured; all others cannot be told.
    """

    encoder_id: str
    present_now: Mapping[str, Sequence[float]]
    present_before: Sequence[float]
    present_now_alone: Mapping[str, Sequence[float]]
    limits: Mapping[str, float]
    findings: frozenset[str]

    def certainties(
        self, state: PriorState, now: float, before: float | None
    ) -> dict[Change, float]:
        """Probability of each change; they need not sum to 1, since it may never be there.

        Args:
            state: what the prior report says.
            now: probability in the current image.
            before: in the prior image; None without one.
        """
        given = [_log_odds(now)] if before is None else [_log_odds(now), _log_odds(before)]
        by_state = self.present_now_alone if before is None else self.present_now
        if_absent, if_present = (
            _logistic(by_state[name], given) for name in (PriorState.ABSENT, PriorState.PRESENT)
        )
        if state in (PriorState.ABSENT, PriorState.NOT_MENTIONED):
            was = 0.0
        elif state is PriorState.PRESENT:
            was = 1.0
        elif before is None:
            return {}
        else:
            was = _logistic(self.present_before, given)
        return {
            Change.NEW: (1 - was) * if_absent,
            Change.PERSISTS: was * if_present,
            Change.RESOLVED: was * (1 - if_present),
        }


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
            "changes": [_change_json(change) for change in self.changes],
        }


def _change_json(change: FindingChange) -> dict[str, Any]:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return {
        "finding": change.finding,
        "prior_report": change.prior_report.value,
        "prior_probability": rounded(change.prior_probability),
        "probability": rounded(change.probability),
        "verdict": change.verdict.value,
        "certainty": rounded(change.certainty),
    }


def changes(
    report: str | None,
    prior: PredictedFindings,
    current: PredictedFindings,
    model: ChangeModel | None,
) -> tuple[FindingChange, ...]:
    """What became of each finding that the prior report or either image speaks for.

    Args:
        report: text of the prior report; None without one.
        prior: findings of the prior image; without probabilities where there is none.
        current: findings of the current image.
        model: of the encoder; None: nothing can be told.

    Returns:
        First what has changed or persists, most certain first, then what cannot be told.
    """
    states = states_in(report) if report else {}
    rows = []
    for name in dict.fromkeys((*states, *prior.probabilities, *current.probabilities)):
        if name == NO_FINDING or name in _concepts_with_a_label():
            continue
        silent = PriorState.NOT_MENTIONED if report else PriorState.NO_REPORT
        state = states.get(name, silent)
        now, before = current.probabilities.get(name), prior.probabilities.get(name)
        row = FindingChange(name, state, before, now)
        if model and now is not None and name in model.findings:
            row = _judged(row, model.certainties(state, now, before), model)
        shown = state in (PriorState.PRESENT, PriorState.POSSIBLE)
        shown = shown or name in (*prior.positive, *current.positive)
        if shown or row.verdict is not Change.CANNOT_TELL:
            rows.append(row)
    return tuple(sorted(rows, key=_order))


def _judged(
    row: FindingChange, certainties: Mapping[Change, float], model: ChangeModel
) -> FindingChange:
    """The row with its verdict, where one is certain enough."""
    if not certainties:
        return row
    verdict = max(certainties, key=lambda change: certainties[change])
    certainty = certainties[verdict]
    if certainty < model.limits.get(verdict, math.inf):
        return row
    return FindingChange(
        row.finding, row.prior_report, row.prior_probability, row.probability, verdict, certainty
    )


def states_in(report: str) -> dict[str, PriorState]:
    """What a report says of each finding that it mentions; present wins over possible."""
    text = read_sections(report)
    ranked = {
        Polarity.NEGATIVE: PriorState.ABSENT,
        Polarity.UNCERTAIN: PriorState.POSSIBLE,
        Polarity.POSITIVE: PriorState.PRESENT,
    }
    read = [s for a, b in sentence_spans(text) for s in read_sentence(text[a:b]).statements]
    return {
        statement.label or statement.concept: state
        for polarity, state in ranked.items()
        for statement in read
        if statement.polarity is polarity
    }


def _order(row: FindingChange) -> tuple[object, ...]:
    untold = row.verdict is Change.CANNOT_TELL
    return untold, -(row.certainty or 0), -(row.probability or 0), row.finding


@lru_cache(maxsize=1)
def _concepts_with_a_label() -> frozenset[str]:
    """Lexicon ids that a CheXpert-14 name stands for."""
    return frozenset(each.concept or each.name for each in findings() if each.label) - set(LABELS)


def _log_odds(probability: float) -> float:
    p = min(max(probability, _SUREST), 1 - _SUREST)
    return math.log(p / (1 - p))


def _logistic(weights: Sequence[float], given: Sequence[float]) -> float:
    bias, *slopes = weights
    return 1 / (1 + math.exp(-bias - sum(w * x for w, x in zip(slopes, given, strict=True))))


def read_change_model(folder: Path, encoder_id: str) -> ChangeModel | None:
    """The model in an encoder's folder; None where there is none, or one of other weights.

    Raises:
        CalibrationError: it is damaged.
    """
    path = folder / CHANGE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["encoder_id"] != encoder_id or values["format"] != _FORMAT:
            return None
        return ChangeModel(
            encoder_id=encoder_id,
            present_now=values["present_now"],
            present_before=values["present_before"],
            present_now_alone=values["present_now_alone"],
            limits=values["limits"],
            findings=frozenset(values["findings"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CalibrationError(
            f"{path} cannot be read ({error!r}): restore it, or remove it to do without"
        ) from error
