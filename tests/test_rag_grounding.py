"""The checker on hand-written pairs, which docs/grounding.md describes."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.grounding import DraftCheck, Reason, SentenceCheck, Verdict, check_draft
from rag.grounding.prompt_injection import remove_injections
from rag.report_nlp.sentences import with_sentences
from rag.schema import Draft, DraftSentence, Hit, ReportRecord, Section

GOLDEN = Path(__file__).parent / "golden" / "grounding_pairs.jsonl"
PAIRS = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines()]
CONTRADICTED = Verdict.CONTRADICTED.value


def hit(report_id: str, findings: str, impression: str = "") -> Hit:
    record = ReportRecord(report_id, f"s{report_id}", f"p{report_id}", findings, impression)
    return Hit(with_sentences(record), 0.5)


def draft(text: str, *sources: str) -> Draft:
    return Draft(findings=(DraftSentence(text, sources),))


def check(text: str, evidence: str, **options: object) -> SentenceCheck:
    checked: DraftCheck = check_draft(draft(text, "R1"), [hit("R1", evidence)], **options)  # type: ignore[arg-type]
    return checked.sentences[0]


def verdicts(split: str) -> list[tuple[dict[str, str], SentenceCheck]]:
    return [
        (
            pair,
            check_draft(
                draft(pair["sentence"], "R1"),
                [hit("R1", pair["findings"], pair["impression"])],
                prior=pair.get("prior", ""),
            ).sentences[0],
        )
        for pair in PAIRS
        if pair["split"] == split
    ]


@pytest.mark.parametrize(("split", "agreement"), [("dev", 1.0), ("held-out", 0.95)])
def test_golden_pairs(split: str, agreement: float) -> None:
    checked = verdicts(split)
    assert len(checked) >= 190
    table = Counter((pair["verdict"], found.verdict.value) for pair, found in checked)
    agreed = sum(n for (expected, actual), n in table.items() if expected == actual)
    assert agreed / len(checked) >= agreement, table

    called_supported = sum(n for (_, actual), n in table.items() if actual == Verdict.SUPPORTED)
    assert table[Verdict.SUPPORTED, Verdict.SUPPORTED] / called_supported >= 0.98

    injected = sum(n for (expected, _), n in table.items() if expected == CONTRADICTED)
    assert 1 - table[CONTRADICTED, Verdict.SUPPORTED] / injected >= 0.95
    assert table[CONTRADICTED, CONTRADICTED] / injected >= 0.95


@pytest.mark.parametrize("split", ["dev", "held-out"])
def test_reasons_of_golden_pairs(split: str) -> None:
    explained = [(pair, found) for pair, found in verdicts(split) if "reason" in pair]
    named = [
        pair["reason"] in {issue.reason.value for issue in found.issues}
        for pair, found in explained
    ]
    assert sum(named) / len(named) >= 0.9


def test_a_verbatim_copy_is_supported_by_its_sentence() -> None:
    evidence = hit("R1", "No effusion.", "1. Unusual Zebra sign.  2. Heart is normal.")
    found = check_draft(draft("unusual  zebra sign", "R1"), [evidence]).sentences[0]
    assert found.verdict is Verdict.SUPPORTED
    (support,) = found.support
    assert support.verbatim
    assert support.span.section is Section.IMPRESSION
    assert evidence.record.sentence(support.span).startswith("1. Unusual Zebra sign.")


def test_a_verbatim_copy_may_not_mention_a_prior_or_a_placeholder() -> None:
    found = check("Effusion is unchanged.", "Effusion is unchanged.")
    assert (found.verdict, found.issues[0].reason) == (Verdict.PARTLY, Reason.PRIOR)
    assert found.sentence.text[found.issues[0].start : found.issues[0].end] == "unchanged"
    found = check("XXXX effusion.", "XXXX effusion.")
    assert (found.verdict, found.issues[0].reason) == (Verdict.PARTLY, Reason.PLACEHOLDER)


def test_sources() -> None:
    hits = [hit("R1", "Small left effusion."), hit("R2", "Heart is normal.")]
    none = check_draft(draft("Small left effusion."), hits).sentences[0]
    assert (none.verdict, none.issues[0].reason) == (Verdict.UNSUPPORTED, Reason.NO_SOURCE)
    unknown = check_draft(draft("Small left effusion.", "R9"), hits).sentences[0]
    assert unknown.verdict is Verdict.UNSUPPORTED
    assert unknown.issues[0] == unknown.issues[0].__class__(Reason.UNKNOWN_SOURCE, "R9")
    extra = check_draft(draft("Small left effusion.", "R1", "R2"), hits).sentences[0]
    assert extra.verdict is Verdict.SUPPORTED
    assert {support.report_id for support in extra.support} == {"R1"}


def test_two_reports_may_support_one_sentence_together() -> None:
    hits = [
        hit("R1", "There is a small left effusion."),
        hit("R2", "The heart is enlarged."),
    ]
    text = "Cardiomegaly and small left effusion."
    assert check_draft(draft(text, "R1"), hits).sentences[0].verdict is Verdict.PARTLY
    assert check_draft(draft(text, "R1", "R2"), hits).sentences[0].verdict is Verdict.SUPPORTED


def test_only_cited_reports_contradict_others_vote() -> None:
    hits = [hit("R1", "There is a left effusion."), hit("R2", "No effusion.")]
    hits.append(hit("R3", "Possible effusion."))
    cited = check_draft(draft("Left effusion is present.", "R1", "R2"), hits)
    assert cited.sentences[0].verdict is Verdict.CONTRADICTED
    assert cited.sentences[0].issues[0].report_id == "R2"
    uncited = check_draft(
        draft("Left effusion is present.", "R1"), hits, image_labels={"Pleural Effusion": 0.81}
    )
    assert uncited.sentences[0].verdict is Verdict.SUPPORTED
    (vote,) = uncited.votes
    assert (vote.present, vote.possible, vote.absent) == (("R1",), ("R3",), ("R2",))
    assert str(vote) == (
        "1 of 3 reports say pleural effusion; 1 possibly; 1 deny it; image probability 0.81"
    )


@pytest.mark.parametrize(
    ("text", "evidence", "probability", "verdict"),
    [
        ("Effusion is seen.", "There is an effusion.", 0.001, Verdict.CONTRADICTED_BY_IMAGE),
        ("Effusion is seen.", "There is an effusion.", 0.5, Verdict.SUPPORTED),
        ("No effusion is seen.", "There is no effusion.", 0.95, Verdict.CONTRADICTED_BY_IMAGE),
        ("No effusion is seen.", "There is no effusion.", 0.5, Verdict.SUPPORTED),
        ("Possible effusion.", "There is a possible effusion.", 0.001, Verdict.SUPPORTED),
        # a contradiction by evidence takes precedence
        ("Effusion is seen.", "No effusion.", 0.001, Verdict.CONTRADICTED),
    ],
)
def test_image_labels(text: str, evidence: str, probability: float, verdict: Verdict) -> None:
    labels = {"Pleural Effusion": probability}
    assert check(text, evidence, image_labels=labels).verdict is verdict


def test_a_prior_must_mention_the_same_finding() -> None:
    evidence = "Small left effusion. Heart is enlarged."
    text = "Small left effusion, unchanged."
    assert check(text, evidence, prior="Small left effusion.").verdict is Verdict.SUPPORTED
    assert check(text, evidence, prior="Fracture of the left rib.").verdict is Verdict.PARTLY
    assert check(text, evidence).verdict is Verdict.PARTLY


def test_no_hits_and_no_draft() -> None:
    assert check_draft(Draft(), []) == DraftCheck((), ())
    assert check_draft(draft("No effusion.", "R1"), []).sentences[0].verdict is Verdict.UNSUPPORTED
    (check,) = check_draft(draft("", "R1"), [hit("R1", "No effusion.")]).sentences
    assert check.verdict is not Verdict.SUPPORTED


SIDES = st.sampled_from(["left", "right"])
SIZES = st.sampled_from(["small", "moderate", "large"])
THINGS = st.sampled_from(["effusion", "pneumothorax", "opacity", "nodule", "pleural thickening"])


@given(SIZES, SIDES, THINGS)
def test_altered_statements_are_contradicted(size: str, side: str, thing: str) -> None:
    evidence = f"There is a {size} {side} {thing}."
    other_side = "right" if side == "left" else "left"
    other_size = "large" if size == "small" else "small"
    same = check(f"{size.capitalize()} {side} {thing} is noted.", evidence)
    assert same.verdict is Verdict.SUPPORTED
    for text in (
        f"There is a {size} {other_side} {thing}.",
        f"There is a {other_size} {side} {thing}.",
        f"There is no {side} {thing}.",
        f"No {thing}.",
    ):
        assert check(text, evidence).verdict is Verdict.CONTRADICTED, text


@given(st.text(max_size=120), st.text(max_size=200))
def test_any_text_gets_a_verdict(text: str, evidence: str) -> None:
    found = check(text, evidence)
    if found.verdict is Verdict.SUPPORTED:
        assert found.support
        assert not found.issues
    elif not remove_injections(evidence)[1]:
        assert found.issues


@pytest.mark.parametrize(
    ("sentence", "evidence", "verdict"),
    [
        ("Tension pneumothorax on the right.", "Right apical pneumothorax.", "partly supported"),
        ("Tension pneumothorax.", "Small pneumothorax.", "contradicted by evidence"),
        ("No tension pneumothorax.", "Small right pneumothorax.", "unsupported"),
        (
            "Right pneumothorax with mediastinal shift.",
            "Right pneumothorax without mediastinal shift.",
            "contradicted by evidence",
        ),
        ("Mitral valve replacement.", "Aortic valve replacement.", "contradicted by evidence"),
        ("Elevated right hemidiaphragm.", "Elevation of the right hemidiaphragm.", "supported"),
        ("Loculated effusion.", "Effusion without loculation.", "partly supported"),
        ("Loculated left effusion.", "Left effusion, loculated.", "supported"),
        ("Dual lead pacemaker.", "Single lead pacemaker.", "partly supported"),
        ("Interstitial edema.", "Alveolar edema.", "partly supported"),
        ("Edema.", "Interstitial edema.", "supported"),
        ("Increased interstitial markings.", "Prominent reticular markings.", "supported"),
        ("The patient is intubated.", "Interval extubation.", "contradicted by evidence"),
    ],
)
def test_modifiers_of_findings(sentence: str, evidence: str, verdict: str) -> None:
    record = with_sentences(ReportRecord("R1", "S1", "P1", findings=evidence))
    draft = Draft((DraftSentence(sentence, ("R1",)),))
    (found,) = check_draft(draft, [Hit(record, 0.9)]).sentences
    assert found.verdict == verdict
