"""All that is kept of one study, and its JSON form: what generation and evaluation share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.change import PriorEvidence
from rag.grounding.verdicts import DraftCheck, ImageMark, Issue, SentenceCheck, Vote, image_mark
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
    """Everything that is kept of one study: one line of ``predictions.jsonl``.

    A failure is a prediction too: it has no draft, but a status, an error class and a reason, and
    still the evidence if retrieval had come so far.

    Attributes:
        file: the image, as the caller named it.
        status: how the work stands or ended.
        study_id: the study, as the caller named it; the key of an evaluation.
        reason, error: one sentence and a class name if there is no draft.
        draft: sentences with their sources.
        check: verdict on each sentence and the votes on each finding; None while there is no draft.
        hits: the evidence, nearest first.
        predicted: findings of the image, where a head predicts them.
        maps: where the frontal image would show each finding, log-odds by place, for showing.
        hints: findings below the reporting threshold that are worth a look.
        encoder_id, index_id, llm, prompt, prompt_hash: what the draft was made with.
        messages: the prompt as it was sent, for showing; only its hash is kept on disk.
        variables: what the prompt was made from; for the audit record, which makes it again.
        answer: what the model wrote, to the letter; for the audit record (`rag.review.audit`).
        warnings: what the reader of the draft should know.
        region: where the reader looked, as JSON; empty where nothing steered the search.
        prior: what the patient's own earlier study contributes; None where none was given.
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
        """Probability in [0, 1] of each CheXpert-14 label of the image."""
        return {n: p for n, p in self.predicted.probabilities.items() if n in LABELS}

    @property
    def confidence(self) -> float | None:
        """What abstention weighs, in [0, 1]: the largest probability; None without labels.

        Of the scores that were tried it orders studies best by what their drafts get right; the
        similarity of the nearest reports orders them the wrong way round, since what abnormal
        images find is nearer and harder to draft.
        """
        return max(self.labels.values(), default=None)

    def image_mark(self, sentence: DraftSentence) -> ImageMark | None:
        """What the image says of a sentence; None where nothing reads the image."""
        known = bool(self.predicted.probabilities)
        return image_mark(sentence.text, self.predicted) if known else None

    def _checked(self, section: Section) -> list[tuple[DraftSentence, SentenceCheck | None]]:
        """Sentences of a section, each with its verdict as soon as there is one."""
        sentences = self.draft.section(section)
        if self.check is None:
            return [(sentence, None) for sentence in sentences]
        verdicts = (check for check in self.check.sentences if check.section is section)
        return list(zip(sentences, verdicts, strict=True))

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
            "votes": [_plain(vote) for vote in (self.check.votes if self.check else ())],
            "evidence": [_hit_json(hit) for hit in self.hits],
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
                    **_plain(hint.sentence),
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
        return [
            _sentence_json(sentence, check, self.image_mark(sentence))
            for sentence, check in self._checked(section)
        ]


def _plain(record: Vote | Issue | DraftSentence) -> dict[str, Any]:
    """A record as a JSON object."""
    return asdict(
        record,
        dict_factory=lambda items: {k: [*v] if isinstance(v, tuple) else v for k, v in items},
    )


def _sentence_json(
    sentence: DraftSentence, check: SentenceCheck | None, mark: ImageMark | None
) -> dict[str, Any]:
    plain = _plain(sentence)
    if check is None:
        return plain
    return {
        **plain,
        "verdict": check.verdict.value,
        "issues": [_plain(issue) for issue in check.issues],
        "cited": check.citation_match.value,
        "image": _mark_json(mark) if mark else None,
    }


def _mark_json(mark: ImageMark) -> dict[str, Any]:
    probability = None if mark.probability is None else round(mark.probability, 4)
    return {
        "mark": mark.verdict.value,
        "finding": mark.finding,
        "denied": mark.denied,
        "probability": probability,
    }


def _hit_json(hit: Hit) -> dict[str, Any]:
    return {
        "report_id": hit.record.report_id,
        "similarity": round(hit.similarity, 6),
        "copies": hit.copies,
        "text": hit.record.text,
    }
