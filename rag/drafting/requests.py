"""What the language model is asked, and how its answer becomes a draft.

The prompt template's mode decides: the model selects evidence sentences (`selection_request`) or
writes sentences and names their sources (`free_text_request`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import jsonschema
from langchain_core.utils.json import parse_partial_json

from prompts.render import Mode, free_text_schema, selection_schema
from rag.drafting.comparisons import add_comparisons, is_allowed_comparison
from rag.drafting.slots import Slot
from rag.errors import LlmEmptyError, LlmFormError, LlmRefusalError
from rag.llm.client import is_refusal, validate
from rag.report_nlp.statements import parse_sentence
from rag.schema import (
    NO_PREDICTED_FINDINGS,
    PRIOR,
    Draft,
    DraftSentence,
    Hit,
    PredictedFindings,
    Section,
)


@dataclass(frozen=True, slots=True)
class DraftInputs:
    """What a request is made from.

    Attributes:
        slots: the consensus.
        hits: the evidence, nearest first; shown to a model that writes.
        reports: size of the pool.
        indication: why the image was taken, if known.
        predicted: the image's findings.
        prior: the patient's own prior report, without names; shown to a model that writes.
        comparisons: sentences that may be said of the prior.
    """

    slots: Sequence[Slot] = ()
    hits: Sequence[Hit] = ()
    reports: int = 0
    indication: str = ""
    predicted: PredictedFindings = NO_PREDICTED_FINDINGS
    prior: str = ""
    comparisons: Sequence[DraftSentence] = ()


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """One study's question to the model.

    Attributes:
        variables: of the prompt template.
        schema: JSON schema of the answer.
        draft: turns an answer, complete or partial, into a draft.
        comparisons: sentences that may be said of the prior.
        evidence: texts of the reports shown to a model that writes; None for one that selects.
    """

    variables: Mapping[str, Any]
    schema: dict[str, Any]
    draft: Callable[[Mapping[str, Any]], Draft]
    comparisons: Sequence[DraftSentence] = ()
    evidence: tuple[str, ...] | None = None


def build_request(mode: Mode, inputs: DraftInputs) -> DraftRequest | None:
    """The request for a template's mode; None if there is nothing to choose."""
    return selection_request(inputs) if mode is Mode.SELECT else free_text_request(inputs)


def consensus_draft(slots: Sequence[Slot]) -> Draft:
    """The first option of every slot."""
    return _make_draft((slot.section, slot.options[0]) for slot in slots)


def selection_request(inputs: DraftInputs) -> DraftRequest | None:
    """Choose one wording for each slot that has several; None if no slot has."""
    open_slots = [slot for slot in inputs.slots if len(slot.options) > 1]
    if not open_slots:
        return None
    options = {
        slot.name: {f"{letter}{n}": option for n, option in enumerate(slot.options, 1)}
        for letter, slot in zip(ascii_uppercase, open_slots, strict=False)
    }
    slots = [
        {
            "name": slot.name,
            "options": [
                {"id": option_id, "votes": votes, "text": option.text}
                for (option_id, option), votes in zip(
                    options[slot.name].items(), slot.votes, strict=True
                )
            ],
        }
        for slot in open_slots
    ]

    def draft(answer: Mapping[str, Any]) -> Draft:
        """The chosen options; the first of a slot without a choice."""
        return _make_draft(
            (
                slot.section,
                options.get(slot.name, {}).get(str(answer.get(slot.name)), slot.options[0]),
            )
            for slot in inputs.slots
        )

    return DraftRequest(
        {"slots": slots, "reports": inputs.reports, "indication": inputs.indication},
        selection_schema({name: list(by_id) for name, by_id in options.items()}),
        draft,
        inputs.comparisons,
    )


def free_text_request(inputs: DraftInputs) -> DraftRequest:
    """Write sentences, each with the shown reports, or the prior, that it rests on."""
    predicted = inputs.predicted
    start = add_comparisons(consensus_draft(inputs.slots), inputs.comparisons)
    variables: dict[str, Any] = {
        "reports": [
            {
                "id": hit.record.report_id,
                "similarity": round(hit.similarity, 3),
                "findings": hit.record.findings,
                "impression": hit.record.impression,
            }
            for hit in inputs.hits
        ],
        "labels": [
            {"name": name, "probability": f"{predicted.probabilities[name]:.2f}"}
            for name in predicted.positive
        ],
        "undeniable": sorted(predicted.undeniable - set(predicted.positive)),
        "start": {
            section.value: [
                {"text": sentence.text, "sources": list(sentence.sources)}
                for sentence in start.section(section)
            ]
            for section in Section
        },
        "indication": inputs.indication,
        "prior": inputs.prior
        and {
            "report": inputs.prior,
            "comparisons": [sentence.text for sentence in inputs.comparisons],
        },
    }
    # a list, as a model may name an unhashable source
    known = [*(hit.record.report_id for hit in inputs.hits), *([PRIOR] if inputs.prior else [])]

    def draft(answer: Mapping[str, Any]) -> Draft:
        """The sentences that have text and a known source."""
        sentences = []
        for section in Section:
            for item in _as_list(answer.get(section.value)):
                text = str(item.get("text", "")).strip() if isinstance(item, Mapping) else ""
                sources = _as_list(item.get("sources")) if text else []
                cited = tuple(dict.fromkeys(source for source in sources if source in known))
                if cited:
                    sentences.append((section, DraftSentence(text, cited)))
        return _make_draft(sentences)

    evidence = tuple(hit.record.text for hit in inputs.hits)
    return DraftRequest(variables, free_text_schema(known), draft, inputs.comparisons, evidence)


def _as_list(value: Any) -> list[Any]:
    """The value if it is a list, else nothing: a partial answer may hold anything."""
    return value if isinstance(value, list) else []


def _make_draft(sentences: Iterable[tuple[Section, DraftSentence]]) -> Draft:
    by_section: dict[Section, list[DraftSentence]] = {section: [] for section in Section}
    for section, sentence in sentences:
        by_section[section].append(sentence)
    return Draft(*map(tuple, by_section.values()))


def parse_partial(text: str) -> dict[str, Any]:
    """The JSON object of an unfinished answer, completed; empty if there is none yet."""
    try:
        answer = parse_partial_json(text)
    except json.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def parse_response(request: DraftRequest, text: str) -> tuple[Draft, tuple[str, ...]]:
    """The draft of a complete answer, and a note for each sentence that was removed from it.

    Raises:
        LlmFormError: it is not JSON, or does not match the schema.
        LlmRefusalError: it is a refusal in plain words.
        LlmEmptyError: no sentence can be used.
        LlmLoopError, LlmLanguageError: see `rag.llm.client.validate`.
    """
    try:
        answer = json.loads(text)
        jsonschema.validate(answer, request.schema)
    except json.JSONDecodeError as error:
        if is_refusal(text):
            raise LlmRefusalError("the model declined instead of drafting") from error
        raise LlmFormError(f"the answer is not JSON: {error}") from error
    except jsonschema.ValidationError as error:
        where = "/".join(str(part) for part in error.absolute_path) or "the answer"
        raise LlmFormError(f"{where}: {error.message[:200]}") from error
    written = request.draft(answer)
    if request.evidence is not None:
        texts = [sentence.text for sentence in (*written.findings, *written.impression)]
        validate(texts, evidence=request.evidence)
    draft, notes = _remove_unknowable(written, request.comparisons)
    if not draft.findings and not draft.impression:
        raise LlmEmptyError("no sentence of the answer can be used; the evidence is shown instead")
    return draft, notes


def _remove_unknowable(
    draft: Draft, comparisons: Sequence[DraftSentence]
) -> tuple[Draft, tuple[str, ...]]:
    """Remove sentences that the image alone cannot tell, with a note for each.

    These are mentions of earlier images, measurements and masked words. A sentence that cites the
    patient's own prior stays only if it is an allowed comparison.
    """
    kept, notes = [], []
    for section in Section:
        for sentence in draft.section(section):
            parsed = parse_sentence(sentence.text)
            cites_prior = PRIOR in sentence.sources
            compares = bool(parsed.prior_mentions)
            is_comparison = cites_prior and compares and is_allowed_comparison(parsed, comparisons)
            reasons = {
                "mentions an earlier image": compares and not is_comparison,
                "rests only on the prior": cites_prior and not is_comparison,
                "gives a measurement": parsed.numbers,
                "contains a removed identifier": parsed.has_placeholder,
            }
            reason = next((reason for reason, applies in reasons.items() if applies), None)
            if reason:
                notes.append(f"a sentence was removed from the {section}: it {reason}")
            else:
                kept.append((section, sentence))
    return _make_draft(kept), tuple(notes)
