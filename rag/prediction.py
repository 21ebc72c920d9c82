"""The outcome of one study, and its JSON form: what drafting writes and evaluation reads."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.change import PriorEvidence
from rag.grounding.verdicts import DraftCheck, ImageMark, Issue, Vote, image_mark
from rag.report_nlp.labeller import LABELS
from rag.schema import (
    NO_PREDICTED_FINDINGS,
    NOTICE,
    Draft,
    DraftSentence,
    Hint,
    Hit,
    PredictedFindings,
    Section,
    Status,
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The outcome of one study: one line of ``predictions.jsonl``.

    A failed study has no draft, but an error class, a reason, and the evidence found before.

    Attributes:
        file: the image, as the caller named it.
        study_id: the study, as the caller named it; the key in evaluation.
        reason, error: one sentence and a class name if there is no draft.
        draft: sentences with their sources.
        check: verdict on each sentence and votes on each finding; None before the check.
        hits: the evidence, nearest first.
        predicted: findings of the image.
        maps: finding -> log-odds in the frontal image, for display.
        hints: findings below the reporting threshold that deserve a look.
        encoder_id, index_id, llm, prompt, prompt_hash: provenance of the draft.
        messages: the prompt as sent, for display; on disk only its hash is kept.
        variables, answer: the prompt's variables and the model's answer, for the audit record.
        warnings: what the reader of the draft should know.
        region: the reader's region as JSON; empty without one.
        prior: what the patient's prior study contributes; None without one.
        seconds: wall time by stage.
    """

    file: str
    status: Status
    study_id: str = ""
    reason: str = ""
    error: str = ""
    draft: Draft = field(default_factory=Draft)
    check: DraftCheck | None = None
    hits: tuple[Hit, ...] = ()
    predicted: PredictedFindings = NO_PREDICTED_FINDINGS
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict, compare=False)
    hints: tuple[Hint, ...] = ()
    encoder_id: str = ""
    index_id: str = ""
    llm: str = ""
    prompt: str = ""
    prompt_hash: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    answer: str = ""
    warnings: tuple[str, ...] = ()
    region: Mapping[str, Any] = field(default_factory=dict)
    prior: PriorEvidence | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, float]:
        """Probability in [0, 1] of each predicted CheXpert-14 label."""
        return {n: p for n, p in self.predicted.probabilities.items() if n in LABELS}

    @property
    def confidence(self) -> float | None:
        """The largest label probability, in [0, 1]; None without labels.

        Of the scores tried, it ranks studies best by how much their drafts get right. Similarity
        ranks them the wrong way round: abnormal images have nearer reports and harder drafts.
        """
        return max(self.labels.values(), default=None)

    def image_mark(self, sentence: DraftSentence) -> ImageMark | None:
        """How a sentence agrees with the image; None if no findings are predicted."""
        if not self.predicted.probabilities:
            return None
        return image_mark(sentence.text, self.predicted)

    def to_json(self) -> dict[str, Any]:
        """The public JSON object; documented in docs/predictions.md."""
        return {
            "file": self.file,
            "study_id": self.study_id,
            "status": self.status.value,
            "error": self.error,
            "reason": self.reason,
            "notice": NOTICE,
            **{section.value: self._section_json(section) for section in Section},
            "votes": [_record_json(vote) for vote in (self.check.votes if self.check else ())],
            "evidence": [
                {
                    "report_id": hit.record.report_id,
                    "similarity": round(hit.similarity, 6),
                    "copies": hit.copies,
                    "text": hit.record.text,
                }
                for hit in self.hits
            ],
            "labels": {label: round(value, 4) for label, value in self.labels.items()},
            "findings_expected": [
                {
                    "name": name,
                    "probability": round(value, 4),
                    "assessable": name not in self.predicted.not_assessable,
                }
                for name, value in self.predicted.probabilities.items()
            ],
            "reporting_threshold": round(self.predicted.threshold, 4),
            "look_for": [
                {
                    "finding": hint.finding,
                    "probability": round(hint.probability, 4),
                    **_record_json(hint.sentence),
                }
                for hint in self.hints
            ],
            "encoder_id": self.encoder_id,
            "index_id": self.index_id,
            "llm": self.llm,
            "prompt": self.prompt,
            "prompt_hash": self.prompt_hash,
            "confidence": self.confidence,
            "warnings": list(self.warnings),
            **({"region": dict(self.region)} if self.region else {}),
            **({"prior": self.prior.to_json()} if self.prior else {}),
            "seconds": {stage: round(value, 4) for stage, value in self.seconds.items()},
        }

    def _section_json(self, section: Section) -> list[dict[str, Any]]:
        if self.check is None:
            return [_record_json(sentence) for sentence in self.draft.section(section)]
        return [
            {
                **_record_json(check.sentence),
                "verdict": check.verdict.value,
                "issues": [_record_json(issue) for issue in check.issues],
                "cited": check.citation_match.value,
                "image": _mark_json(self.image_mark(check.sentence)),
            }
            for check in self.check.sentences
            if check.section is section
        ]


def _record_json(record: Vote | Issue | DraftSentence) -> dict[str, Any]:
    """A record as a JSON object, tuples as lists."""
    return asdict(
        record,
        dict_factory=lambda items: {k: [*v] if isinstance(v, tuple) else v for k, v in items},
    )


def _mark_json(mark: ImageMark | None) -> dict[str, Any] | None:
    if mark is None:
        return None
    return {
        "mark": mark.verdict.value,
        "finding": mark.finding,
        "denied": mark.denied,
        "probability": None if mark.probability is None else round(mark.probability, 4),
    }
