"""Requests to the model, and complete, partial and invalid answers."""

import json

import pytest
from support.made_up_reports import made_up_hits

from prompts.render import Mode, load_template, render, template_names
from rag.drafting.requests import (
    DraftInputs,
    DraftRequest,
    build_request,
    consensus_draft,
    parse_response,
)
from rag.drafting.slots import Slot
from rag.errors import LlmOutputError
from rag.grounding import check_draft
from rag.grounding.verdicts import Verdict
from rag.report_nlp.sentences import with_sentences
from rag.schema import (
    NO_PREDICTED_FINDINGS,
    DraftSentence,
    Hit,
    PredictedFindings,
    ReportRecord,
    Section,
)

HITS = made_up_hits()
CLEAR = DraftSentence("The lungs are clear.", ("R1", "R3"))
CLEAR_TOO = DraftSentence("Lungs are clear.", ("R2",))
LARGE = DraftSentence("The heart is enlarged.", ("R1",))
SLOTS = [
    Slot("heart", Section.FINDINGS, (LARGE,), (1,)),
    Slot("lungs", Section.FINDINGS, (CLEAR, CLEAR_TOO), (2, 1)),
    Slot("impression", Section.IMPRESSION, (DraftSentence("Cardiomegaly.", ("R1",)),), (2,)),
]


def request(mode: Mode, predicted: PredictedFindings = NO_PREDICTED_FINDINGS) -> DraftRequest:
    found = build_request(mode, DraftInputs(SLOTS, HITS, 4, "cough", predicted))
    assert found is not None
    return found


def test_variables_fit_the_shipped_templates() -> None:
    for name in template_names():
        template = load_template(name)
        assert render(template, request(template.mode).variables).sha256


def test_the_model_is_asked_only_about_slots_with_several_options() -> None:
    assert list(request(Mode.SELECT).schema["properties"]) == ["lungs"]
    assert build_request(Mode.SELECT, DraftInputs(SLOTS[:1])) is None


def test_a_selected_sentence_is_verbatim_and_keeps_its_sources() -> None:
    draft, notes = parse_response(request(Mode.SELECT), '{"lungs": "A2"}')
    assert draft.findings == (LARGE, CLEAR_TOO)
    assert draft.impression == SLOTS[2].options
    assert notes == ()


def test_the_selection_schema_allows_only_shown_options() -> None:
    with pytest.raises(LlmOutputError, match=r"lungs.*L99"):
        parse_response(request(Mode.SELECT), '{"lungs": "L99"}')


def test_without_a_choice_the_consensus_stands() -> None:
    draft, _ = parse_response(request(Mode.SELECT), '{"lungs": "none"}')
    assert draft == consensus_draft(SLOTS)
    assert draft.findings == (LARGE, CLEAR)


def test_a_partial_answer_is_a_partial_draft() -> None:
    for partial in ("A", ["A2"]):
        assert request(Mode.SELECT).draft({"lungs": partial}) == consensus_draft(SLOTS)
    write = request(Mode.WRITE)
    half = {"findings": [{"text": "The heart is enlarged.", "sources": ["R1"]}, {"text": "The lu"}]}
    assert len(write.draft(half).findings) == 1
    assert write.draft({}).findings == ()


def written(text: str, sources: list[str]) -> str:
    sentence = {"text": text, "sources": sources}
    good = {"text": "The heart is enlarged.", "sources": ["R2", "R1", "R2"]}
    return json.dumps({"findings": [good, sentence], "impression": [good]})


def test_written_sentences_cite_each_source_once() -> None:
    draft_request = request(Mode.WRITE)
    draft, _ = parse_response(draft_request, written("The lungs are clear.", ["R3"]))
    assert [sentence.sources for sentence in draft.findings] == [("R2", "R1"), ("R3",)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Effusion is unchanged since the prior study.", "earlier image"),
        ("There is a 12 mm nodule.", "measure"),
        ("Seen by Dr. XXXX.", "identifier"),
    ],
)
def test_what_the_image_cannot_tell_is_removed_with_a_note(text: str, reason: str) -> None:
    draft, notes = parse_response(request(Mode.WRITE), written(text, ["R1"]))
    assert [sentence.text for sentence in draft.findings] == ["The heart is enlarged."]
    assert len(notes) == 1
    assert reason in notes[0]


@pytest.mark.parametrize("answer", ["", "not json", "[]", '{"findings": []}', "null"])
def test_an_invalid_answer_is_an_output_error(answer: str) -> None:
    for mode in Mode:
        with pytest.raises(LlmOutputError):
            parse_response(request(mode), answer)


def test_an_invented_source_is_refused() -> None:
    with pytest.raises(LlmOutputError, match="R99"):
        parse_response(request(Mode.WRITE), written("The lungs are clear.", ["R99"]))


def test_a_writing_model_is_told_the_predicted_findings() -> None:
    predicted = PredictedFindings({"Cardiomegaly": 0.81, "Edema": 0.02}, ("Cardiomegaly",))
    template, given = load_template("write_v3"), request(Mode.WRITE, predicted).variables
    user = render(template, given).messages[-1][1]
    assert "Cardiomegaly 0.81" in user
    assert "Edema" not in user


def test_the_worked_examples_pass_the_check() -> None:
    for variables, answer in load_template("write_v3").examples:
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
                similarity=shown["similarity"],
            )
            for shown in variables["reports"]
        ]
        draft, notes = parse_response(
            build_request(Mode.WRITE, DraftInputs(hits=hits)), json.dumps(answer)
        )
        verdicts = {check.verdict for check in check_draft(draft, hits).sentences}
        assert notes == ()
        assert verdicts <= {Verdict.SUPPORTED, Verdict.PARTLY}, verdicts
