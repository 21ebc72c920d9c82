"""Evidence -> what is asked of the language model, and how its answer is read.

Two ways, chosen by the prompt template's mode: the model selects evidence sentences (`selection`),
or writes sentences with their sources (`free_text`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import jsonschema
from langchain_core.utils.json import parse_partial_json

from prompts.render import Mode, selection_schema, written_schema
from rag.drafting.comparisons import is_allowed_comparison, with_comparisons
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
    """What a model is asked about.

    Attributes:
        slots: the draft that the pool agrees on.
        hits: the evidence, nearest first; only who writes sees it.
        reports: how many reports the pool has.
        indication: why the image was taken, if known.
        predicted: the image's findings.
        prior: the patient's own prior report, without names; only who writes sees it.
        comparisons: with the prior that may be made.
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
    """What is asked of the model about one study, and how its answer is read.

    Attributes:
        draft: of an answer, whole or as far as it has come.
        comparisons: with the prior that may be made.
        shown: texts of the reports where the model writes by itself; None where it only chooses.
    """

    variables: Mapping[str, Any]
    schema: dict[str, Any]
    draft: Callable[[Mapping[str, Any]], Draft]
    comparisons: Sequence[DraftSentence] = ()
    shown: tuple[str, ...] | None = None


def build_request(mode: Mode, inputs: DraftInputs) -> DraftRequest | None:
    """What a template of this mode asks; None where there is nothing to choose."""
    return selection(inputs) if mode is Mode.SELECT else free_text(inputs)


def first_choice(slots: Sequence[Slot]) -> Draft:
    """The draft with the first sentence of every slot."""
    return _draft((slot.section, slot.options[0]) for slot in slots)


def selection(inputs: DraftInputs) -> DraftRequest | None:
    """The model chooses a wording where there are several; text and sources are the evidence's."""
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
                {"id": number, "votes": votes, "text": option.text}
                for (number, option), votes in zip(
                    options[slot.name].items(), slot.votes, strict=True
                )
            ],
        }
        for slot in open_slots
    ]

    def draft(answer: Mapping[str, Any]) -> Draft:
        """In the order of a report; the first option where none is chosen."""
        return _draft(
            (
                slot.section,
                options.get(slot.name, {}).get(str(answer.get(slot.name)), slot.options[0]),
            )
            for slot in inputs.slots
        )

    return DraftRequest(
        {"slots": slots, "reports": inputs.reports, "indication": inputs.indication},
        selection_schema({name: list(numbered) for name, numbered in options.items()}),
        draft,
        inputs.comparisons,
    )


def free_text(inputs: DraftInputs) -> DraftRequest:
    """The model writes sentences and names the shown reports, or the prior, that each rests on."""
    predicted = inputs.predicted
    start = with_comparisons(first_choice(inputs.slots), inputs.comparisons)
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
        and {"report": inputs.prior, "comparisons": [each.text for each in inputs.comparisons]},
    }
    # a list: what is asked of it need not be hashable
    known = [*(hit.record.report_id for hit in inputs.hits), *([PRIOR] if inputs.prior else [])]

    def draft(answer: Mapping[str, Any]) -> Draft:
        """Sentences that have text and known sources; a source is named once."""
        said = []
        for section in Section:
            for item in _list(answer.get(section.value)):
                text = str(item.get("text", "")).strip() if isinstance(item, Mapping) else ""
                sources = _list(item.get("sources")) if text else []
                cited = tuple(dict.fromkeys(source for source in sources if source in known))
                if cited:
                    said.append((section, DraftSentence(text, cited)))
        return _draft(said)

    shown = tuple(hit.record.text for hit in inputs.hits)
    return DraftRequest(variables, written_schema(known), draft, inputs.comparisons, shown)


def _list(value: Any) -> list[Any]:
    """The value if it is a list, else nothing: half an answer may be anything."""
    return value if isinstance(value, list) else []


def _draft(said: Iterable[tuple[Section, DraftSentence]]) -> Draft:
    sentences = list(said)
    return Draft(*(tuple(s for section, s in sentences if section is wanted) for wanted in Section))


def as_far_as_it_goes(text: str) -> dict[str, Any]:
    """The object that the beginning of an answer stands for; empty while there is none."""
    try:
        answer = parse_partial_json(text)
    except json.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}


def parse_response(question: DraftRequest, text: str) -> tuple[Draft, tuple[str, ...]]:
    """The draft of a whole answer, and a note for each sentence that was taken out of it.

    Raises:
        LlmFormError: not JSON, or not what the schema asks for.
        LlmRefusalError: a refusal in plain words.
        LlmEmptyError: nothing that can be used.
        LlmLoopError, LlmLanguageError: see `rag.llm.client`.
    """
    try:
        answer = json.loads(text)
        jsonschema.validate(answer, question.schema)
    except json.JSONDecodeError as error:
        if is_refusal(text):
            raise LlmRefusalError("the model declined instead of drafting") from error
        raise LlmFormError(f"the answer is not JSON: {error}") from error
    except jsonschema.ValidationError as error:
        where = "/".join(str(part) for part in error.absolute_path) or "the answer"
        raise LlmFormError(f"{where}: {error.message[:200]}") from error
    written = question.draft(answer)
    if question.shown is not None:
        texts = [sentence.text for section in Section for sentence in written.section(section)]
        validate(texts, evidence=question.shown)
    draft, notes = _without_what_cannot_be_known(written, question.comparisons)
    if not draft.findings and not draft.impression:
        raise LlmEmptyError("no sentence of the answer can be used; the evidence is shown instead")
    return draft, notes


def _without_what_cannot_be_known(
    draft: Draft, allowed: Sequence[DraftSentence]
) -> tuple[Draft, tuple[str, ...]]:
    """Take out sentences that speak of earlier images, measures or hidden words, and say so.

    Of an earlier image only a comparison with the patient's own prior that cites it stays; and
    nothing that cites it says anything else.
    """
    notes: list[str] = []

    def kept(section: Section) -> tuple[DraftSentence, ...]:
        sentences = []
        for sentence in draft.section(section):
            reading = parse_sentence(sentence.text)
            cites = PRIOR in sentence.sources
            compares = (
                cites and bool(reading.prior_mentions) and is_allowed_comparison(reading, allowed)
            )
            reasons = {
                "mentions an earlier image": reading.prior_mentions and not compares,
                "rests only on the prior": cites and not compares,
                "gives a measurement": reading.numbers,
                "contains a removed identifier": reading.has_placeholder,
            }
            wrong = [reason for reason, found in reasons.items() if found]
            if wrong:
                notes.append(f"a sentence was removed from the {section}: it {wrong[0]}")
            else:
                sentences.append(sentence)
        return tuple(sentences)

    return Draft(kept(Section.FINDINGS), kept(Section.IMPRESSION)), tuple(notes)
