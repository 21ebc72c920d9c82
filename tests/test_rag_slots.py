"""What a draft says: which sentences may be said, which the pool agrees on, and what they cite."""

import pytest

from rag.drafting.slots import Slot, consensus_slots
from rag.report_nlp.sentences import with_sentences
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


def said(slots: list[Slot], section: Section | None = None) -> list[str]:
    return [slot.options[0].text for slot in slots if section in (None, slot.section)]


def test_what_most_reports_say_is_said_in_the_order_of_a_report() -> None:
    found = consensus_slots(
        pool(*[NORMAL] * 3, "Lungs are clear. The heart is normal."), NO_PREDICTED_FINDINGS
    )
    assert said(found) == [
        "The heart is normal in size.",
        "The lungs are clear.",
        "No pleural effusion or pneumothorax.",
    ]


def test_sentences_cite_reports_that_hold_them() -> None:
    hits = pool(*[NORMAL] * 3)
    for slot in consensus_slots(hits, NO_PREDICTED_FINDINGS):
        for option, votes in zip(slot.options, slot.votes, strict=True):
            assert votes == 3
            assert 1 <= len(option.sources) <= 2
            for source in option.sources:
                (record,) = (hit.record for hit in hits if hit.record.report_id == source)
                assert option.text in record.findings


def test_a_finding_that_the_image_does_not_show_is_not_stated_whoever_says_it() -> None:
    hits = pool(*["The heart is enlarged. The lungs are clear."] * 4, NORMAL)
    assert "The heart is enlarged." not in said(consensus_slots(hits, PredictedFindings(QUIET)))


def test_a_finding_that_the_image_shows_is_stated_and_not_denied() -> None:
    hits = pool(*[NORMAL] * 5, "The heart is enlarged. The lungs are clear.")
    found = said(consensus_slots(hits, LARGE_HEART))
    assert "The heart is enlarged." in found
    assert "The heart is normal in size." not in found


def test_a_degree_that_the_pool_does_not_agree_on_is_left_out() -> None:
    hits = pool(
        "The heart is severely enlarged. The lungs are clear.",
        *["The heart is enlarged. The lungs are clear."] * 3,
    )
    assert "The heart is enlarged." in said(consensus_slots(hits, LARGE_HEART))
    agreed = pool(*["The heart is severely enlarged. The lungs are clear."] * 3)
    assert "The heart is severely enlarged." in said(consensus_slots(agreed, LARGE_HEART))


def test_no_device_of_a_kind_that_the_pool_does_not_agree_on() -> None:
    shown = PredictedFindings({**QUIET, "Support Devices": 0.8}, ("Support Devices",))
    apart = pool(
        "A right PICC is present. The lungs are clear.",
        "A tracheostomy tube is present. The lungs are clear.",
        "A left chest tube is present. The lungs are clear.",
        "Sternotomy wires are present. The lungs are clear.",
    )
    assert said(consensus_slots(apart, shown)) == ["The lungs are clear."]
    alike = pool(*["A right PICC is present. The lungs are clear."] * 3)
    assert "A right PICC is present." in said(consensus_slots(alike, shown))


def test_what_must_not_be_missed_is_not_denied_where_it_is_not_improbable() -> None:
    unsure = PredictedFindings(
        {**QUIET, "Pneumothorax": 0.2}, undeniable=frozenset({"Pneumothorax"})
    )
    found = said(consensus_slots(pool(*[NORMAL] * 3), unsure))
    assert found == ["The heart is normal in size.", "The lungs are clear."]


def test_nothing_is_said_twice_and_nothing_contradicts() -> None:
    shown = PredictedFindings({**QUIET, "Lung Opacity": 0.9}, ("Lung Opacity",))
    hits = pool(
        *["There is an opacity in the right lung. No pneumothorax. No pleural effusion."] * 3,
        *["The lungs are clear. No pneumothorax or pleural effusion."] * 3,
    )
    found = said(consensus_slots(hits, shown))
    assert "There is an opacity in the right lung." in found
    assert "The lungs are clear." not in found
    assert sum("pneumothorax" in text.lower() for text in found) == 1


def test_the_impression_speaks_of_what_the_findings_state() -> None:
    hits = pool(
        *[(NORMAL, "No acute disease.")] * 3,
        *[("The heart is enlarged. The lungs are clear.", "Cardiomegaly.")] * 3,
    )
    assert "Cardiomegaly." not in said(consensus_slots(hits, PredictedFindings(QUIET)))
    assert said(consensus_slots(hits, PredictedFindings(QUIET)), Section.IMPRESSION) == [
        "No acute disease."
    ]
    assert said(consensus_slots(hits, LARGE_HEART), Section.IMPRESSION)[0] == "Cardiomegaly."


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
def test_what_cannot_be_said_of_another_image_is_never_said(unusable: str) -> None:
    assert said(consensus_slots(pool(*[unusable] * 4), NO_PREDICTED_FINDINGS)) == []


def test_a_rare_wording_does_not_win() -> None:
    odd = "Expanded and clear airspace of both lungs is what the lungs are clear for."
    hits = pool(odd, *["The lungs are clear."] * 2, *["Lungs are clear."] * 2)
    assert said(consensus_slots(hits, NO_PREDICTED_FINDINGS))[0] in (
        "The lungs are clear.",
        "Lungs are clear.",
    )


def test_another_wording_of_the_same_statement_is_an_option() -> None:
    hits = pool(*["The lungs are clear."] * 3, *["Lungs are clear."] * 3)
    (slot,) = consensus_slots(hits, NO_PREDICTED_FINDINGS)
    assert {option.text for option in slot.options} == {"The lungs are clear.", "Lungs are clear."}


def test_no_pool_no_slots() -> None:
    assert consensus_slots([], NO_PREDICTED_FINDINGS) == []


def test_no_impression_calls_all_clear_beside_a_finding_that_may_be_acute() -> None:
    hazy = ("Hazy opacity in the left base. No pneumothorax.", "No acute abnormality.")
    hits = pool(*[hazy] * 3)
    shown = PredictedFindings({**QUIET, "Lung Opacity": 0.8}, ("Lung Opacity",))
    found = consensus_slots(hits, shown)
    assert said(found, Section.FINDINGS) == ["Hazy opacity in the left base.", "No pneumothorax."]
    assert "No acute abnormality." not in said(found)
    clear = pool(*[("No pneumothorax.", "No acute abnormality.")] * 3)
    assert "No acute abnormality." in said(consensus_slots(clear, shown), Section.IMPRESSION)


def test_a_draft_has_an_impression_where_one_could_be_said() -> None:
    normal = ("The heart is normal in size. No pneumothorax.", "")
    hits = pool(*[normal] * 9, ("The heart is normal in size.", "No acute abnormality."))
    assert said(consensus_slots(hits, NO_PREDICTED_FINDINGS), Section.IMPRESSION) == [
        "No acute abnormality."
    ]


def test_where_no_impression_fits_it_repeats_the_findings_with_their_sources() -> None:
    hits = pool(*["The heart is normal in size. Hazy opacity in the left base."] * 3)
    found = consensus_slots(hits, HAZY)
    assert said(found, Section.IMPRESSION) == ["Hazy opacity in the left base."]
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
def test_the_impression_has_no_side_zone_or_degree_of_its_own(impression: str, fits: bool) -> None:
    hits = pool(*[(OPACITY, "")] * 3, *[("No pneumothorax.", impression)] * 2)
    assert (impression in said(consensus_slots(hits, HAZY), Section.IMPRESSION)) is fits


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
def test_no_sentence_calls_normal_what_another_finds(
    finding: str, shown: PredictedFindings, unfit: str
) -> None:
    hits = pool(*[f"{finding} {unfit} No pneumothorax."] * 4)
    found = said(consensus_slots(hits, shown))
    assert finding in found
    assert unfit not in found


def test_no_impression_denies_an_acute_abnormality_by_naming_another_finding() -> None:
    both = PredictedFindings(
        {**QUIET, "Cardiomegaly": 0.9, "Lung Opacity": 0.8}, ("Cardiomegaly", "Lung Opacity")
    )
    report = (f"The heart is enlarged. {OPACITY}", "Cardiomegaly, no acute pulmonary findings.")
    assert report[1] not in said(consensus_slots(pool(*[report] * 3), both))
    only = ("The heart is enlarged.", report[1])
    assert report[1] in said(consensus_slots(pool(*[only] * 3), LARGE_HEART))


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
def test_what_a_whole_denies_is_not_denied_of_its_parts_again(
    whole: str, part: str, twice: bool
) -> None:
    found = said(consensus_slots(pool(*[f"{whole} {part}"] * 3), NO_PREDICTED_FINDINGS))
    assert (whole in found and part in found) is twice


def test_a_sentence_begins_with_a_capital_and_ends_with_a_stop() -> None:
    hits = pool(*[("the heart is normal in size. No pneumothorax", "No acute disease")] * 3)
    assert said(consensus_slots(hits, NO_PREDICTED_FINDINGS)) == [
        "The heart is normal in size.",
        "No pneumothorax.",
        "No acute disease.",
    ]
