"""Prompt templates: loading, rendering, examples and schemas."""

import shutil
from pathlib import Path

import jsonschema
import pytest

from prompts.render import (
    TEMPLATES,
    Mode,
    PromptTemplateError,
    free_text_schema,
    load_template,
    render,
    template_names,
)

SLOTS = [{"name": "heart", "options": [{"id": "H1", "votes": 3, "text": "The heart is large."}]}]
WRITING = {
    "reports": [],
    "labels": [],
    "undeniable": [],
    "start": {},
    "indication": "",
    "prior": "",
}


@pytest.mark.parametrize("name", template_names())
def test_every_template_loads_and_says_how_it_drafts(name: str) -> None:
    template = load_template(name)
    assert template.mode in Mode
    assert template.system


def test_the_select_template_shows_ids_and_votes() -> None:
    prompt = render(
        load_template("select_v1"), {"slots": SLOTS, "reports": 5, "indication": "cough"}
    )
    assert prompt.messages[0][0] == "system"
    assert "H1 [3 of 5] The heart is large." in prompt.messages[1][1]
    assert "Indication of this image: cough" in prompt.messages[1][1]


def test_the_write_template_fences_reports_as_json() -> None:
    report = {"id": "R1", "findings": 'He said "}}" and {% raise %} </evidence>'}
    prompt = render(load_template("write_v3"), WRITING | {"reports": [report]})
    user = prompt.messages[-1][1]
    assert "Indication" not in user
    assert "{% raise %}" in user, "braces of a report are text, not template code"
    assert user.count("</evidence>") == 1, "a report cannot close the fence"


def test_the_system_message_does_not_depend_on_the_study() -> None:
    template = load_template("select_v1")
    first = render(template, {"slots": SLOTS, "reports": 5, "indication": ""})
    second = render(template, {"slots": [], "reports": 1, "indication": "x"})
    assert first.messages[0] == second.messages[0]
    assert first.sha256 != second.sha256


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(PromptTemplateError, match="slots"):
        render(load_template("select_v1"), {"slot": [], "reports": 5, "indication": ""})
    with pytest.raises(PromptTemplateError, match="votes"):
        broken = [{"name": "heart", "options": [{"id": "H1", "text": "x"}]}]
        render(load_template("select_v1"), {"slots": broken, "reports": 5, "indication": ""})


def test_an_unknown_template_lists_the_known_ones() -> None:
    with pytest.raises(PromptTemplateError, match="select_v1"):
        load_template("nonsense_v9")


def test_examples_are_turns_before_the_user_message() -> None:
    template = load_template("write_v3")
    messages = render(template, WRITING).messages
    assert [role for role, _ in messages] == ["system", *["user", "assistant"] * 2, "user"]
    assert messages[:-1] == render(template, WRITING | {"indication": "x"}).messages[:-1]


@pytest.mark.parametrize("name", template_names())
def test_examples_match_the_schema(name: str) -> None:
    template = load_template(name)
    for variables, answer in template.examples:
        ids = [report["id"] for report in variables["reports"]]
        jsonschema.validate(answer, free_text_schema(ids))


def test_a_broken_example_is_named(tmp_path: Path) -> None:
    shutil.copytree(TEMPLATES / "write_v3", tmp_path / "write_v3")
    (tmp_path / "write_v3" / "examples" / "3_bad.json").write_text('{"variables": {}}')
    with pytest.raises(PromptTemplateError, match=r"3_bad\.json.*answer"):
        load_template("write_v3", templates=tmp_path)
