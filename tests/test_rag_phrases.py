"""Every entry of the lexicon can be matched and has one meaning."""

import itertools
from collections import Counter

import pytest

from rag.report_nlp.labeller import LABELS
from rag.report_nlp.lexicon import Finding, FindingKind, expand, load_toml, match_phrases
from rag.report_nlp.roles import ROLE_LETTERS
from rag.report_nlp.sentences import lexicon_keys, tokenize
from rag.report_nlp.statements import Topic

FINDINGS = load_toml("findings.toml")
CUES = load_toml("cues.toml")


def test_letters_of_roles_are_unique() -> None:
    assert set(CUES) == {*ROLE_LETTERS, "inert", "ticked", "unticked"}
    assert max(Counter(ROLE_LETTERS.values()).values()) == 1
    assert not set("fhd_.") & set(ROLE_LETTERS.values())


def test_no_cue_phrase_has_two_roles() -> None:
    roles = [(phrase, role) for role, cue in CUES.items() for phrase in set(expand(cue["phrases"]))]
    twice = [phrase for phrase, n in Counter(phrase for phrase, _ in roles).items() if n > 1]
    assert not twice


def test_findings_are_well_formed() -> None:
    for name, entry in FINDINGS.items():
        fields = {key: value for key, value in entry.items() if key != "phrases"}
        finding = Finding(name=name, **fields)
        assert finding.label in ("", *LABELS)
        assert Topic(finding.topic)
        assert FindingKind(finding.kind)
        assert finding.terms in ("", "near", "apart")
        assert finding.default in ("", "positive", "uncertain", "negative")
        assert all(expand(entry["phrases"])), name


def test_relations_name_findings() -> None:
    concepts = {entry.get("concept", name) for name, entry in FINDINGS.items()}
    relations = load_toml("relations.toml")
    for table in (relations["denies"], relations["excludes"]):
        named = {*table, *itertools.chain.from_iterable(table.values())}
        assert named <= concepts


@pytest.mark.parametrize("name", sorted(FINDINGS))
def test_every_phrase_matches_its_finding(name: str) -> None:
    for phrase in set(expand(FINDINGS[name]["phrases"])):
        text = " ".join(word.removesuffix("*") for word in phrase)
        found = match_phrases(tokenize(text))
        assert len(found) == 1, text
        assert name in {finding.name for finding in found[0].findings}, text


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("Oedema", "edema"),
        ("pnuemothorax", "pneumothorax"),
        ("effussion", "effusion"),
        ("Cardiomegally", "cardiomegaly"),
        ("PTX", "pneumothorax"),
        ("lungs", "lung"),
        ("infusion", "infusion"),
        ("hypoinflation", "hypoinflat*"),
        ("qwertyuiop", "qwertyuiop"),
    ],
)
def test_spelling(word: str, key: str) -> None:
    assert key in lexicon_keys(word)
