"""Which evidence sentences a draft may use, and how they are counted."""

from made_up_reports import made_up_hits

from rag.candidates import HEADINGS, IMPRESSION, candidates_by_heading


def texts(heading: str, *report_ids: str) -> list[str]:
    return [option.text for option in candidates_by_heading(made_up_hits(*report_ids))[heading]]


def test_sentences_stand_under_the_heading_they_are_about() -> None:
    found = candidates_by_heading(made_up_hits())
    assert list(found) == [h for h in (*HEADINGS, IMPRESSION) if h in found], "in report order"
    assert "The heart is enlarged." in texts("heart")
    assert "The lungs are clear." in texts("lungs")
    assert "No effusion is seen." in texts("pleura")


def test_the_same_sentence_of_two_reports_is_one_candidate_with_two_sources() -> None:
    lungs = candidates_by_heading(made_up_hits())["lungs"]
    clear = next(option for option in lungs if option.text == "The lungs are clear.")
    assert clear.sources == ("R1", "R3")


def test_reports_that_say_the_same_in_other_words_vote_for_a_sentence() -> None:
    heart = candidates_by_heading(made_up_hits("R1", "R2"))["heart"]
    assert [option.votes for option in heart] == [2, 2]
    assert heart[0].text == "The heart is enlarged.", (
        "the nearer report first where votes are equal"
    )


def test_priors_measures_advice_and_placeholders_are_no_candidates() -> None:
    everything = [
        o.text for options in candidates_by_heading(made_up_hits()).values() for o in options
    ]
    for unusable in ("XXXX", "unchanged", "12 mm", "Advise"):
        assert not [text for text in everything if unusable in text]


def test_list_numbers_are_not_part_of_a_sentence() -> None:
    assert "Cardiomegaly." in texts(IMPRESSION, "R1")


def test_an_impression_alone_lends_its_sentences_to_the_findings() -> None:
    assert texts("lungs", "R4") == ["Clear lungs."]
    assert "Clear lungs." in texts(IMPRESSION, "R4")


def test_no_hits_no_candidates() -> None:
    assert candidates_by_heading([]) == {}
