"""Answers that are refusals, loops or another language, and sentences that only resemble one."""

import json

import pytest
from support.made_up_reports import made_up_hits

from prompts.render import Mode
from rag.drafting.requests import DraftInputs, build_request, parse_response
from rag.errors import LlmError, LlmLanguageError, LlmLoopError, LlmRefusalError
from rag.llm.client import is_degenerate, validate

HITS = made_up_hits()
EVIDENCE = [hit.record.text for hit in HITS]

NO_DRAFTS: list[tuple[list[str], type[LlmError]]] = [
    (["I'm sorry, but I can't interpret medical images."], LlmRefusalError),
    (["As an AI language model I have no access to the image."], LlmRefusalError),
    (["The heart is enlarged.", "Please consult a qualified physician."], LlmRefusalError),
    (["I am unable to provide a diagnosis."], LlmRefusalError),
    (["The lungs are clear.", "the lungs are  clear.", "The lungs are clear."], LlmLoopError),
    (["Le coeur est de taille normale.", "Pas d'épanchement pleural."], LlmLanguageError),
    (["Das Herz ist vergrößert.", "Kein Pleuraerguss, kein Pneumothorax."], LlmLanguageError),
    (["El corazón está aumentado de tamaño.", "Pulmones limpios."], LlmLanguageError),
    (["心脏增大。", "肺部清晰。"], LlmLanguageError),
]


@pytest.mark.parametrize(("texts", "error"), NO_DRAFTS)
def test_each_kind_has_its_error(texts: list[str], error: type[LlmError]) -> None:
    with pytest.raises(error):
        validate(texts, evidence=EVIDENCE)


@pytest.mark.parametrize(
    "text",
    [
        "The heart is enlarged.",
        "An underlying infection cannot be excluded.",
        "Opacity as a large rounded area in the left base.",
        "There is no effusion or pneumothorax seen.",
        "Mild cardiomegaly without acute disease.",
    ],
)
def test_report_sentences_pass(text: str) -> None:
    validate([text, text], evidence=EVIDENCE)


def test_a_refusal_that_is_not_json_is_recognised() -> None:
    draft_request = build_request(Mode.WRITE, DraftInputs(hits=HITS))
    with pytest.raises(LlmRefusalError):
        parse_response(draft_request, "I'm sorry, I cannot help with that.")


def test_a_refusal_within_the_json_is_recognised() -> None:
    sentence = {"text": "I cannot assist with that request.", "sources": ["R1"]}
    answer = json.dumps({"findings": [sentence], "impression": [sentence]})
    with pytest.raises(LlmRefusalError):
        parse_response(build_request(Mode.WRITE, DraftInputs(hits=HITS)), answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"findings": [{"text": "' + "no acute disease " * 12, True),
        ("{" + "\n" * 100, True),
        ('{"a": "' + "ha" * 50, True),
        ('{"findings": [{"text": "The heart is enlarged.", "sources": ["R1", "R2"]}, ', False),
        ("", False),
    ],
)
def test_a_loop_is_distinguished_from_a_long_answer(text: str, expected: bool) -> None:
    assert is_degenerate(text) is expected
