"""Image marks of sentences, and hints about findings below the threshold."""

import pytest

from rag.drafting.slots import hints_for
from rag.grounding.verdicts import ImageVerdict, image_mark
from rag.report_nlp.sentences import with_sentences
from rag.schema import Draft, DraftSentence, Hit, PredictedFindings, ReportRecord

PREDICTED = PredictedFindings(
    probabilities={"Cardiomegaly": 0.8, "Lung Opacity": 0.4, "scar": 0.1, "Pleural Effusion": 0.05},
    positive=("Cardiomegaly", "Lung Opacity"),
    not_assessable=frozenset({"Fracture"}),
    threshold=0.3,
)


@pytest.mark.parametrize(
    ("sentence", "verdict"),
    [
        ("The heart is enlarged.", ImageVerdict.LIKELY),
        ("The heart is normal in size.", ImageVerdict.UNLIKELY),
        ("There is a scar at the left base.", ImageVerdict.POSSIBLE),  # by its label
        ("There is a pleural effusion.", ImageVerdict.UNLIKELY),
        ("No pleural effusion.", ImageVerdict.LIKELY),
        ("No fracture.", ImageVerdict.NOT_ASSESSABLE),
        ("The heart is enlarged with a pleural effusion.", ImageVerdict.UNLIKELY),
        ("The trachea is midline.", ImageVerdict.NOT_ASSESSABLE),
    ],
)
def test_the_least_likely_statement_decides_the_mark(sentence: str, verdict: ImageVerdict) -> None:
    assert image_mark(sentence, PREDICTED).verdict is verdict


def test_hints_use_the_commonest_wording() -> None:
    texts = ["There is a left pleural effusion.", *["Small effusions."] * 2, "The heart is large."]
    records = [ReportRecord(f"R{n}", f"S{n}", f"P{n}", text, "") for n, text in enumerate(texts)]
    pool = [Hit(with_sentences(record), 0.5) for record in records]
    predicted = PredictedFindings(
        {"Pleural Effusion": 0.2, "Cardiomegaly": 0.8, "Edema": 0.02}, threshold=0.3
    )
    stated = Draft((DraftSentence("The heart is large.", ("R3",)),), ())
    (hint,) = hints_for(pool, predicted, stated)
    assert (hint.finding, hint.sentence.text) == ("Pleural Effusion", "Small effusions.")
    assert set(hint.sentence.sources) == {"R1", "R2"}
