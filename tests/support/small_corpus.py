"""A made-up collection for tests of the index: sentences of ours, several studies a patient."""

import random

from rag.corpus.records import Corpus, make_corpus
from rag.report_nlp.sentences import with_sentences
from rag.schema import ReportRecord

FINDINGS = [
    "Lungs are clear.",
    "Heart size is normal.",
    "Heart is mildly enlarged.",
    "Small left pleural effusion.",
    "No pneumothorax.",
    "Right lower lobe opacity.",
    "Healed rib fracture on the left.",
    "Nodule of 8 mm in the right apex.",
    "Tip of the line in the superior vena cava.",
    "Degenerative change of the spine.",
]
OTHER_WORDINGS = {
    "Lungs are clear.": "The lungs are clear.",
    "Heart size is normal.": "The heart size is normal.",
    "No pneumothorax.": "There is no pneumothorax.",
}
"""In every other report: where there are two wordings, a model is asked for one."""
IMPRESSIONS = ["No acute disease.", "Cardiomegaly.", "Effusion.", "Opacity, infection possible."]


def small_corpus(
    count: int = 60, *, name: str = "made-up", seed: int = 0, first: int = 0
) -> Corpus:
    """Reports r000, r001, ...: three studies a patient, and many texts word for word the same."""
    rng = random.Random(seed)  # noqa: S311 - made-up reports
    records = []
    for number in range(first, first + count):
        findings = " ".join(rng.sample(FINDINGS, rng.choice([1, 1, 3, 4])))
        for usual, other in OTHER_WORDINGS.items() if number % 2 else ():
            findings = findings.replace(usual, other)
        records.append(
            with_sentences(
                ReportRecord(
                    report_id=f"r{number:03d}",
                    study_id=f"s{number:03d}",
                    patient_id=f"p{number // 3:03d}",
                    findings=findings,
                    impression=rng.choice(IMPRESSIONS) if len(findings) > 60 else "",
                    labels=("normal",) if "clear" in findings else ("abnormal", "a/b"),
                )
            )
        )
    return make_corpus(name, records=records, licence="made up", attribution="The authors.")
