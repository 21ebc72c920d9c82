"""Reports written for the tests; none is taken from a collection."""

from rag.report_nlp.sentences import with_sentences
from rag.schema import Hit, ReportRecord

FINDINGS_AND_IMPRESSIONS = {
    "R1": (
        "The heart is enlarged. The lungs are clear. No pleural effusion. Bones are intact.",
        "1. Cardiomegaly. 2. No acute disease.",
    ),
    "R2": (
        "Heart size is increased. Lungs are clear, unchanged from XXXX. No effusion is seen.",
        "Cardiomegaly.",
    ),
    "R3": ("The lungs are clear. A 12 mm nodule in the left upper lobe.", "Nodule. Advise CT."),
    "R4": ("", "Clear lungs. No pneumothorax."),
}


def made_up_record(report_id: str) -> ReportRecord:
    findings, impression = FINDINGS_AND_IMPRESSIONS[report_id]
    return with_sentences(
        ReportRecord(
            report_id=report_id,
            study_id=f"S-{report_id}",
            patient_id=f"P-{report_id}",
            findings=findings,
            impression=impression,
        )
    )


def made_up_hits(*report_ids: str) -> list[Hit]:
    """Hits in the given order, each less similar than the one before."""
    ids = report_ids or tuple(FINDINGS_AND_IMPRESSIONS)
    return [Hit(made_up_record(name), 0.9 - rank / 10) for rank, name in enumerate(ids, 1)]
