"""Which sentences can stand together in one draft.

Each comes from another patient's report: two may contradict each other, say one thing twice, or
name another side in the impression than in the findings. Knows sets of findings, no image.
"""

from collections.abc import Sequence

from rag.report_nlp.labeller import LABELS
from rag.report_reading import UsableSentence
from rag.schema import Section

MOST_IMPRESSIONS = 2
MAY_BE_ACUTE = frozenset(
    {"opacity", "consolidation", "pneumonia", "edema", "congestion", "pneumothorax"}
    | {"pleural_effusion", "lung_lesion", "fracture"}
)
"""Beside these no draft says "No acute abnormality", though a third of all reports do."""
_AIRSPACE = frozenset({"airspace", "alveolar", "infiltrate", "infiltrates"})
_SAID_ONCE = frozenset({"bones", "pleura"})


def fits(new: UsableSentence, others: Sequence[UsableSentence]) -> bool:
    """Whether a sentence can stand beside the others of a draft."""
    if any(o.words == new.words or _clash(new, o) for o in others):
        return False
    beside = [other for other in others if other.section is new.section]
    if any(new.denied & o.denied or new.present & o.present for o in beside):
        return False
    if new.section is Section.FINDINGS:
        return not any(_says_no_more(new, o) or _says_no_more(o, new) for o in beside)
    if len(beside) >= MOST_IMPRESSIONS or not sums_up(new, others):
        return False
    # What is normal is said in the findings; the impression sums up, once.
    is_summary = not new.heading or "abnormality" in new.denied
    return bool(new.present) or (is_summary and all(other.present for other in beside))


def _clash(a: UsableSentence, b: UsableSentence) -> bool:
    if a.present & b.excluded or b.present & a.excluded:
        return True
    return any(
        _is_all_clear(x, beside=y) or _is_airspace_denied(x, beside=y) for x, y in ((a, b), (b, a))
    )


def _is_all_clear(sentence: UsableSentence, *, beside: UsableSentence) -> bool:
    """Whether it finds chest or lungs without abnormality, beside one that may be acute.

    What it names itself may stand there: "scarring without acute disease" beside opacities.
    """
    of_lungs = sentence.section is Section.IMPRESSION or sentence.heading in ("lungs", "pleura")
    if not of_lungs or "abnormality" not in sentence.denied:
        return False
    named = sentence.present | ({"opacity"} if "Lung Opacity" in sentence.present else set())
    return bool(beside.present & MAY_BE_ACUTE - named)


def _is_airspace_denied(sentence: UsableSentence, *, beside: UsableSentence) -> bool:
    """Whether it denies consolidation beside airspace disease; of 116 reports 6 say both."""
    filled = "opacity" in beside.present and _AIRSPACE.intersection(beside.words)
    return bool(filled) and "consolidation" in sentence.denied


def _says_no_more(sentence: UsableSentence, other: UsableSentence) -> bool:
    """Whether all that it denies is denied by the other's "the bones are normal" already.

    Of lungs reports say both as a rule: "the lungs are clear", "no focal consolidation".
    """
    parts = sentence.denied - set(LABELS)
    whole = other.heading in _SAID_ONCE and not sentence.present and parts
    return bool(whole) and parts <= other.excluded


def sums_up(impression: UsableSentence, findings: Sequence[UsableSentence]) -> bool:
    """Whether the findings state all that an impression does, with its sides, degrees and zones."""
    stated = [other for other in findings if other.section is Section.FINDINGS]
    names = {name for other in stated for name in other.present}
    return impression.present <= names and all(
        any(name in other.present and value in _values(other) for other in stated)
        for name, value in impression.details
    )


def _values(sentence: UsableSentence) -> set[str]:
    """What a sentence says of any of its findings: "bibasilar opacities, perhaps atelectasis"."""
    return {value for _, value in sentence.details}
