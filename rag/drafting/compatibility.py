"""Which sentences can stand together in one draft.

They come from different patients' reports: two may contradict each other, say one thing twice, or
give a side in the impression that the findings do not. Compares sets of findings; knows no image.
"""

from collections.abc import Sequence

from rag.report_nlp.labeller import LABELS
from rag.report_reading import UsableSentence
from rag.schema import Section

MAX_IMPRESSION_SENTENCES = 2
POSSIBLY_ACUTE = frozenset(
    {"opacity", "consolidation", "pneumonia", "edema", "congestion", "pneumothorax"}
    | {"pleural_effusion", "lung_lesion", "fracture"}
)
"""No draft says "No acute abnormality" beside these, though a third of all reports do."""
_AIRSPACE_WORDS = frozenset({"airspace", "alveolar", "infiltrate", "infiltrates"})
_HEADINGS_DENIED_ONCE = frozenset({"bones", "pleura"})


def is_compatible(sentence: UsableSentence, draft: Sequence[UsableSentence]) -> bool:
    """Whether a sentence can be added to those of a draft."""
    if any(o.words == sentence.words or _contradict(sentence, o) for o in draft):
        return False
    same_section = [other for other in draft if other.section is sentence.section]
    if any(sentence.denied & o.denied or sentence.present & o.present for o in same_section):
        return False
    if sentence.section is Section.FINDINGS:
        return not any(
            _is_redundant(sentence, o) or _is_redundant(o, sentence) for o in same_section
        )
    if len(same_section) >= MAX_IMPRESSION_SENTENCES or not summarizes(sentence, draft):
        return False
    # normal anatomy belongs in the findings; the impression says once that nothing is abnormal
    is_overall = not sentence.heading or "abnormality" in sentence.denied
    return bool(sentence.present) or (is_overall and all(o.present for o in same_section))


def _contradict(a: UsableSentence, b: UsableSentence) -> bool:
    if a.present & b.excluded or b.present & a.excluded:
        return True
    return any(
        _denies_abnormality_beside(x, y) or _denies_airspace_beside(x, y)
        for x, y in ((a, b), (b, a))
    )


def _denies_abnormality_beside(sentence: UsableSentence, other: UsableSentence) -> bool:
    """Whether one calls chest or lungs free of abnormality, and the other may be acute.

    What the sentence itself states is excepted: "scarring without acute disease" beside opacities.
    """
    about_lungs = sentence.section is Section.IMPRESSION or sentence.heading in ("lungs", "pleura")
    if not about_lungs or "abnormality" not in sentence.denied:
        return False
    excepted = sentence.present | ({"opacity"} if "Lung Opacity" in sentence.present else set())
    return bool(other.present & POSSIBLY_ACUTE - excepted)


def _denies_airspace_beside(sentence: UsableSentence, other: UsableSentence) -> bool:
    """Whether one denies consolidation beside airspace disease; of 116 reports 6 say both."""
    has_airspace = "opacity" in other.present and _AIRSPACE_WORDS.intersection(other.words)
    return bool(has_airspace) and "consolidation" in sentence.denied


def _is_redundant(sentence: UsableSentence, other: UsableSentence) -> bool:
    """Whether the other's "the bones are normal" already denies all that the sentence denies.

    Not so for lungs, where reports usually say both: "the lungs are clear", "no consolidation".
    """
    denied = sentence.denied - set(LABELS)
    if other.heading not in _HEADINGS_DENIED_ONCE or sentence.present or not denied:
        return False
    return denied <= other.excluded


def summarizes(impression: UsableSentence, sentences: Sequence[UsableSentence]) -> bool:
    """Whether the findings state all that an impression does, with its sides, degrees and zones."""
    findings = [other for other in sentences if other.section is Section.FINDINGS]
    stated = {name for other in findings for name in other.present}
    # a detail may be given for another finding: "bibasilar opacities, perhaps atelectasis"
    return impression.present <= stated and all(
        any(name in other.present and detail in _details(other) for other in findings)
        for name, detail in impression.details
    )


def _details(sentence: UsableSentence) -> set[str]:
    return {detail for _, detail in sentence.details}
