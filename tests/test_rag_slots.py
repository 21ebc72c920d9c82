"""The consensus: which sentences may be said, which are chosen, and what they cite."""

import numpy as np
import pytest

from rag.drafting.constraints import constrain
from rag.drafting.slots import Slot, consensus_slots
from rag.report_nlp.sentences import with_sentences
from rag.report_reading import ParsedReport
from rag.schema import NO_PREDICTED_FINDINGS, Hit, PredictedFindings, ReportRecord, Section

NORMAL = "The heart is normal in size. The lungs are clear. No pleural effusion or pneumothorax."
QUIET = {"Cardiomegaly": 0.05, "Lung Opacity": 0.05, "Support Devices": 0.02}
LARGE_HEART = PredictedFindings({**QUIET, "Cardiomegaly": 0.9}, ("Cardiomegaly",))


def pool(*reports: str | tuple[str, str]) -> list[Hit]:
    hits = []
    for rank, report in enumerate(reports, 1):
        findings, impression = report if isinstance(report, tuple) else (report, "")
        record = ReportRecord(f"R{rank}", f"S{rank}", f"P{rank}", findings, impression)
        hits.append(Hit(with_sentences(record), 0.5))
    return hits


def texts(slots: list[Slot], section: Section | None = None) -> list[str]:
    return [slot.options[0].text for slot in slots if section in (None, slot.section)]


def drafted(
    hits: list[Hit],
    predicted: PredictedFindings = NO_PREDICTED_FINDINGS,
    section: Section | None = None,
) -> list[str]:
    """Sentences of the consensus."""
    return texts(consensus_slots(hits, predicted), section)


def test_the_consensus_is_in_the_order_of_a_report() -> None:
    hits = pool(*[NORMAL] * 3, "Lungs are clear. The heart is normal.")
    assert drafted(hits) == [
        "The heart is normal in size.",
        "The lungs are clear.",
        "No pleural effusion or pneumothorax.",
    ]


def test_sentences_cite_reports_that_contain_them() -> None:
    hits = pool(*[NORMAL] * 3)
    for slot in consensus_slots(hits, NO_PREDICTED_FINDINGS):
        for option, votes in zip(slot.options, slot.votes, strict=True):
            assert votes == 3
            assert 1 <= len(option.sources) <= 2
            for source in option.sources:
                (record,) = (hit.record for hit in hits if hit.record.report_id == source)
                assert option.text in record.findings


def test_a_finding_that_is_not_predicted_is_not_stated() -> None:
    hits = pool(*["The heart is enlarged. The lungs are clear."] * 4, NORMAL)
    assert "The heart is enlarged." not in drafted(hits, PredictedFindings(QUIET))


def test_a_predicted_finding_is_stated_and_not_denied() -> None:
    hits = pool(*[NORMAL] * 5, "The heart is enlarged. The lungs are clear.")
    found = drafted(hits, LARGE_HEART)
    assert "The heart is enlarged." in found
    assert "The heart is normal in size." not in found


def test_a_degree_without_agreement_is_left_out() -> None:
    hits = pool(
        "The heart is severely enlarged. The lungs are clear.",
        *["The heart is enlarged. The lungs are clear."] * 3,
    )
    assert "The heart is enlarged." in drafted(hits, LARGE_HEART)
    agreed = pool(*["The heart is severely enlarged. The lungs are clear."] * 3)
    assert "The heart is severely enlarged." in drafted(agreed, LARGE_HEART)


def test_a_kind_of_device_without_agreement_is_left_out() -> None:
    shown = PredictedFindings({**QUIET, "Support Devices": 0.8}, ("Support Devices",))
    apart = pool(
        "A right PICC is present. The lungs are clear.",
        "A tracheostomy tube is present. The lungs are clear.",
        "A left chest tube is present. The lungs are clear.",
        "Sternotomy wires are present. The lungs are clear.",
    )
    assert drafted(apart, shown) == ["The lungs are clear."]
    alike = pool(*["A right PICC is present. The lungs are clear."] * 3)
    assert "A right PICC is present." in drafted(alike, shown)


def test_of_equally_frequent_findings_the_alphabetically_first_stands_for_their_label() -> None:
    names = [f"finding {n:03}" for n in range(200)]  # the order of a set is right in 1 of 200 runs
    reports = [
        ParsedReport(frozenset({name}), frozenset({(name, "Lung Opacity")}), frozenset(), (), ())
        for name in reversed(names)
    ]
    constraints = constrain(HAZY, reports, np.full(len(names), 1 / len(names)))
    assert constraints.stateable == {"Lung Opacity", "finding 000"}


def test_an_undeniable_finding_is_not_denied() -> None:
    unsure = PredictedFindings(
        {**QUIET, "Pneumothorax": 0.2}, undeniable=frozenset({"Pneumothorax"})
    )
    found = drafted(pool(*[NORMAL] * 3), unsure)
    assert found == ["The heart is normal in size.", "The lungs are clear."]


def test_sentences_neither_repeat_nor_contradict_each_other() -> None:
    shown = PredictedFindings({**QUIET, "Lung Opacity": 0.9}, ("Lung Opacity",))
    hits = pool(
        *["There is an opacity in the right lung. No pneumothorax. No pleural effusion."] * 3,
        *["The lungs are clear. No pneumothorax or pleural effusion."] * 3,
    )
    found = drafted(hits, shown)
    assert "There is an opacity in the right lung." in found
    assert "The lungs are clear." not in found
    assert sum("pneumothorax" in text.lower() for text in found) == 1


def test_the_impression_mentions_only_stated_findings() -> None:
    hits = pool(
        *[(NORMAL, "No acute disease.")] * 3,
        *[("The heart is enlarged. The lungs are clear.", "Cardiomegaly.")] * 3,
    )
    assert "Cardiomegaly." not in drafted(hits, PredictedFindings(QUIET))
    assert drafted(hits, PredictedFindings(QUIET), Section.IMPRESSION) == ["No acute disease."]
    assert drafted(hits, LARGE_HEART, Section.IMPRESSION)[0] == "Cardiomegaly."


@pytest.mark.parametrize(
    "unusable",
    [
        "The XXXX is intact.",
        "The heart is smaller than before.",
        "There is a 12 mm nodule.",
        "CT is advised.",
        "Shoulder and clavicle.",
        "No effusion or The heart is normal.",
        "Otherwise the lungs are clear.",
        "These are calcified.",
    ],
)
def test_an_unusable_sentence_is_never_chosen(unusable: str) -> None:
    assert drafted(pool(*[unusable] * 4)) == []


def test_a_rare_wording_is_not_chosen() -> None:
    odd = "Expanded and clear airspace of both lungs is what the lungs are clear for."
    hits = pool(odd, *["The lungs are clear."] * 2, *["Lungs are clear."] * 2)
    assert drafted(hits)[0] in (
        "The lungs are clear.",
        "Lungs are clear.",
    )


def test_another_wording_of_the_same_content_is_an_option() -> None:
    hits = pool(*["The lungs are clear."] * 3, *["Lungs are clear."] * 3)
    (slot,) = consensus_slots(hits, NO_PREDICTED_FINDINGS)
    assert {option.text for option in slot.options} == {"The lungs are clear.", "Lungs are clear."}


def test_an_empty_pool_has_no_slots() -> None:
    assert consensus_slots([], NO_PREDICTED_FINDINGS) == []


def test_no_impression_denies_abnormality_beside_an_acute_finding() -> None:
    hazy = ("Hazy opacity in the left base. No pneumothorax.", "No acute abnormality.")
    hits = pool(*[hazy] * 3)
    shown = PredictedFindings({**QUIET, "Lung Opacity": 0.8}, ("Lung Opacity",))
    found = consensus_slots(hits, shown)
    assert texts(found, Section.FINDINGS) == [
        "Hazy opacity in the left base.",
        "No pneumothorax.",
    ]
    assert "No acute abnormality." not in texts(found)
    clear = pool(*[("No pneumothorax.", "No acute abnormality.")] * 3)
    assert "No acute abnormality." in drafted(clear, shown, Section.IMPRESSION)


def test_a_fitting_impression_is_always_added() -> None:
    normal = ("The heart is normal in size. No pneumothorax.", "")
    hits = pool(*[normal] * 9, ("The heart is normal in size.", "No acute abnormality."))
    assert drafted(hits, section=Section.IMPRESSION) == ["No acute abnormality."]


def test_without_a_fitting_impression_the_acute_findings_are_repeated() -> None:
    hits = pool(*["The heart is normal in size. Hazy opacity in the left base."] * 3)
    found = consensus_slots(hits, HAZY)
    assert texts(found, Section.IMPRESSION) == ["Hazy opacity in the left base."]
    assert all(slot.options[0].sources for slot in found)


OPACITY = "Hazy opacity in the left base."
HAZY = PredictedFindings({**QUIET, "Lung Opacity": 0.8}, ("Lung Opacity",))


@pytest.mark.parametrize(
    ("impression", "fits"),
    [
        ("Left base opacity.", True),
        ("Hazy opacity.", True),
        ("Right base opacity.", False),  # another side
        ("Left upper lobe opacity.", False),  # another zone
        ("Bibasilar opacities.", False),
        ("Large left base opacity.", False),  # a degree that no finding gives
    ],
)
def test_the_impression_adds_no_side_zone_or_degree(impression: str, fits: bool) -> None:
    hits = pool(*[(OPACITY, "")] * 3, *[("No pneumothorax.", impression)] * 2)
    assert (impression in drafted(hits, HAZY, Section.IMPRESSION)) is fits


@pytest.mark.parametrize(
    ("finding", "shown", "unfit"),
    [
        # the silhouette of heart and mediastinum is the heart's as well
        ("The heart is enlarged.", LARGE_HEART, "The cardiomediastinal silhouette is normal."),
        # airspace disease is consolidation, or near enough
        ("Left base airspace disease.", HAZY, "No focal consolidation."),
        (OPACITY, HAZY, "The lungs show no acute abnormality."),
    ],
)
def test_no_sentence_calls_normal_what_another_states(
    finding: str, shown: PredictedFindings, unfit: str
) -> None:
    hits = pool(*[f"{finding} {unfit} No pneumothorax."] * 4)
    found = drafted(hits, shown)
    assert finding in found
    assert unfit not in found


def test_no_impression_denies_an_acute_abnormality_by_naming_another_finding() -> None:
    both = PredictedFindings(
        {**QUIET, "Cardiomegaly": 0.9, "Lung Opacity": 0.8}, ("Cardiomegaly", "Lung Opacity")
    )
    report = (f"The heart is enlarged. {OPACITY}", "Cardiomegaly, no acute pulmonary findings.")
    assert report[1] not in drafted(pool(*[report] * 3), both)
    only = ("The heart is enlarged.", report[1])
    assert report[1] in drafted(pool(*[only] * 3), LARGE_HEART)


@pytest.mark.parametrize(
    ("whole", "part", "twice"),
    [
        ("The osseous structures are intact.", "No acute bony abnormality.", False),
        ("No acute bony abnormality.", "The spine is without acute abnormality.", False),
        ("The pleural spaces are clear.", "No pleural effusion or pneumothorax.", False),
        ("No pleural effusion or pneumothorax.", "The osseous structures are intact.", True),
        ("The lungs are clear.", "No focal consolidation.", True),  # as reports have it
    ],
)
def test_a_denial_of_the_whole_is_not_repeated_for_its_parts(
    whole: str, part: str, twice: bool
) -> None:
    found = drafted(pool(*[f"{whole} {part}"] * 3))
    assert (whole in found and part in found) is twice


def test_sentences_get_a_capital_and_a_full_stop() -> None:
    hits = pool(*[("the heart is normal in size. No pneumothorax", "No acute disease")] * 3)
    assert drafted(hits) == [
        "The heart is normal in size.",
        "No pneumothorax.",
        "No acute disease.",
    ]
