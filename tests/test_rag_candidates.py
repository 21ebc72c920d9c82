"""Which evidence sentences a draft may use, in which slots, and how they are counted."""

from made_up_reports import made_up_hits

from rag.candidates import HEADINGS, IMPRESSION, Slot, slots_for
from rag.predicted_findings import PredictedFindings

HEART = PredictedFindings(
    {"Cardiomegaly": 0.9, "Pleural Effusion": 0.1, "Lung Lesion": 0.1}, ("Cardiomegaly",)
)
LESION = PredictedFindings({"Cardiomegaly": 0.1, "Lung Lesion": 0.8}, ("Lung Lesion",))


def slots(*report_ids: str, predicted: PredictedFindings | None = None) -> dict[str, Slot]:
    hits = made_up_hits(*report_ids)
    found = slots_for(hits, predicted=predicted) if predicted else slots_for(hits)
    return {slot.name: slot for slot in found}


def texts(slot: Slot) -> list[str]:
    return [option.text for option in slot.options]


def everything(found: dict[str, Slot]) -> list[str]:
    return [text for slot in found.values() for text in texts(slot)]


def test_sentences_stand_under_the_heading_they_are_about() -> None:
    found = slots()
    assert list(found) == [h for h in (*HEADINGS, IMPRESSION) if h in found], "in report order"
    assert "The heart is enlarged." in texts(found["heart"])
    assert "The lungs are clear." in texts(found["lungs"])
    assert "No effusion is seen." in texts(found["pleura"])


def test_the_same_sentence_of_two_reports_is_one_candidate_with_two_sources() -> None:
    clear = next(o for o in slots()["lungs"].options if o.text == "The lungs are clear.")
    assert clear.sources == ("R1", "R3")


def test_reports_that_say_the_same_in_other_words_vote_for_a_sentence() -> None:
    options = slots("R1", "R2")["heart"].options
    assert [option.votes for option in options] == [2, 2]
    assert options[0].text == "The heart is enlarged.", "nearer report first where votes are equal"


def test_priors_measures_advice_and_placeholders_are_no_candidates() -> None:
    for unusable in ("XXXX", "unchanged", "12 mm", "Advise"):
        assert not [text for text in everything(slots()) if unusable in text]


def test_list_numbers_are_not_part_of_a_sentence() -> None:
    assert "Cardiomegaly." in texts(slots("R1")[IMPRESSION])


def test_an_impression_alone_lends_its_sentences_to_the_findings() -> None:
    found = slots("R4")
    assert texts(found["lungs"]) == ["Clear lungs."]
    assert "Clear lungs." in texts(found[IMPRESSION])


def test_an_expected_finding_has_a_slot_of_its_own_under_its_heading() -> None:
    found = slots(predicted=HEART)
    assert found["cardiomegaly"].heading == "heart"
    assert "The heart is enlarged." in texts(found["cardiomegaly"])
    assert "heart" not in found, "nothing normal to say of an enlarged heart"
    assert texts(found[IMPRESSION])[0] == "Cardiomegaly."


def test_what_the_image_is_not_expected_to_show_is_no_candidate() -> None:
    found = slots(predicted=LESION)
    assert "The heart is enlarged." not in everything(found)
    assert "Cardiomegaly." not in everything(found)


def test_what_denies_an_expected_finding_is_no_candidate() -> None:
    effusion = PredictedFindings({"Pleural Effusion": 0.9}, ("Pleural Effusion",))
    assert "No effusion is seen." not in everything(slots(predicted=effusion))


def test_no_hits_no_slots() -> None:
    assert slots_for([]) == []
