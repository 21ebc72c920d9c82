"""Questions to the model and how its answers are read, whole, partial and wrong."""

import json

import pytest
from made_up_reports import made_up_hits

from prompts.render import Mode, load_template, render, template_names
from rag.draft_requests import build_request
from rag.drafting import parse_response
from rag.errors import LlmOutputError
from rag.grounding import check_draft
from rag.grounding.verdicts import Verdict
from rag.predicted_findings import PredictedFindings
from rag.report_nlp.sentences import with_sentences
from rag.schema import DraftSentence, Hit, ReportRecord

HITS = made_up_hits()


def test_variables_fit_the_shipped_templates() -> None:
    for name in template_names():
        template = load_template(name)
        question = build_request(template.mode, HITS, indication="cough")
        assert render(template, question.variables).sha256


def test_selection_gives_the_evidence_sentence_verbatim_with_its_sources() -> None:
    question = build_request(Mode.SELECT, HITS)
    slots = {slot["name"]: slot["options"] for slot in question.variables["slots"]}
    lungs = next(option for option in slots["lungs"] if option["text"] == "The lungs are clear.")
    answer = dict.fromkeys(slots, "none") | {"lungs": lungs["id"]}
    draft, notes = parse_response(question, json.dumps(answer))
    assert draft.findings == (DraftSentence("The lungs are clear.", ("R1", "R3")),)
    assert draft.impression == ()
    assert notes == ()


def test_selection_schema_admits_only_shown_numbers() -> None:
    question = build_request(Mode.SELECT, HITS)
    answer = dict.fromkeys(question.schema["properties"], "none") | {"lungs": "L99"}
    with pytest.raises(LlmOutputError, match=r"lungs.*L99"):
        parse_response(question, json.dumps(answer))


def test_nothing_chosen_is_not_a_draft() -> None:
    question = build_request(Mode.SELECT, HITS)
    with pytest.raises(LlmOutputError, match="no sentence"):
        parse_response(question, json.dumps(dict.fromkeys(question.schema["properties"], "none")))


def test_a_partial_answer_is_a_partial_draft() -> None:
    select = build_request(Mode.SELECT, HITS)
    assert [s.text for s in select.draft({"heart": "A1", "lungs": "B"}).findings] == [
        "The heart is enlarged."
    ]
    write = build_request(Mode.WRITE, HITS)
    half = {"findings": [{"text": "The heart is enlarged.", "sources": ["R1"]}, {"text": "The lu"}]}
    assert len(write.draft(half).findings) == 1
    assert write.draft({}).findings == ()


def written(text: str, sources: list[str]) -> str:
    sentence = {"text": text, "sources": sources}
    good = {"text": "The heart is enlarged.", "sources": ["R2", "R1", "R2"]}
    return json.dumps({"findings": [good, sentence], "impression": [good]})


def test_written_sentences_keep_their_sources_once_each() -> None:
    question = build_request(Mode.WRITE, HITS)
    draft, _ = parse_response(question, written("The lungs are clear.", ["R3"]))
    assert [sentence.sources for sentence in draft.findings] == [("R2", "R1"), ("R3",)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Effusion is unchanged since the prior study.", "earlier image"),
        ("There is a 12 mm nodule.", "measure"),
        ("Seen by Dr. XXXX.", "identifier"),
    ],
)
def test_what_cannot_be_known_is_taken_out_and_said(text: str, reason: str) -> None:
    draft, notes = parse_response(build_request(Mode.WRITE, HITS), written(text, ["R1"]))
    assert [sentence.text for sentence in draft.findings] == ["The heart is enlarged."]
    assert len(notes) == 1
    assert reason in notes[0]


@pytest.mark.parametrize("answer", ["", "not json", "[]", '{"findings": []}', "null"])
def test_rubbish_is_an_output_error(answer: str) -> None:
    for mode in Mode:
        with pytest.raises(LlmOutputError):
            parse_response(build_request(mode, HITS), answer)


def test_an_invented_source_is_refused() -> None:
    with pytest.raises(LlmOutputError, match="R99"):
        parse_response(build_request(Mode.WRITE, HITS), written("The lungs are clear.", ["R99"]))


def test_a_writing_model_is_told_what_the_image_expects() -> None:
    predicted = PredictedFindings({"Cardiomegaly": 0.81, "Edema": 0.02}, ("Cardiomegaly",))
    question = build_request(Mode.WRITE, HITS, predicted=predicted)
    user = render(load_template("write_v1"), question.variables).messages[1][1]
    assert "Cardiomegaly 0.81" in user
    assert "Edema" not in user


def test_the_worked_examples_would_pass_their_own_check() -> None:
    for example in load_template("write_v2").examples:
        hits = [
            Hit(
                with_sentences(
                    ReportRecord(
                        report_id=shown["id"],
                        study_id=shown["id"],
                        patient_id=shown["id"],
                        findings=shown["findings"],
                        impression=shown["impression"],
                    )
                ),
                rank=rank,
                similarity=shown["similarity"],
            )
            for rank, shown in enumerate(example.variables["reports"], 1)
        ]
        draft, notes = parse_response(build_request(Mode.WRITE, hits), json.dumps(example.answer))
        verdicts = {check.verdict for check in check_draft(draft, hits).sentences}
        assert notes == ()
        assert verdicts <= {Verdict.SUPPORTED, Verdict.PARTLY}, verdicts
