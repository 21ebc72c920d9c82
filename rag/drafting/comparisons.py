"""Sentences of a draft that compare with the patient's own prior study.

Such a sentence gives a verdict of `rag.change` on a finding that may be stated of the image anyway;
no other sentence of a draft may mention an earlier image.
"""

from collections.abc import Iterable

from rag.change import Change, FindingChange, PriorEvidence, stated_changes
from rag.report_nlp.statements import ParsedSentence
from rag.report_reading import sentence_findings
from rag.schema import PRIOR, Draft, DraftSentence, PredictedFindings

_MAX_COMPARISONS = 4
_TEMPLATES = {
    Change.NEW: "{} is new since the prior study.",
    Change.PERSISTS: "{} is again seen, as in the prior study.",
    Change.RESOLVED: "{} of the prior study is no longer seen.",
}


def prior_comparisons(
    prior: PriorEvidence, predicted: PredictedFindings
) -> tuple[DraftSentence, ...]:
    """What a draft may say of change, most certain first; nothing without a prior report.

    The risk limits of all other sentences hold: a finding is called new or persisting only if it
    may be stated of the image, and resolved only if it may be denied.
    """
    comparisons = []
    for change in prior.changes if prior.report else ():
        if change.verdict not in _TEMPLATES or not _is_permitted(change, predicted):
            continue
        text = _TEMPLATES[change.verdict].format(change.name.capitalize())
        stated, denied = sentence_findings(text)
        understood = denied if change.verdict is Change.RESOLVED else stated
        if change.finding in understood and not stated & denied:  # "pleural other" is no phrase
            comparisons.append(DraftSentence(text, (PRIOR,)))
    return tuple(comparisons[:_MAX_COMPARISONS])


def _is_permitted(change: FindingChange, predicted: PredictedFindings) -> bool:
    if change.verdict is Change.RESOLVED:
        return change.finding not in {*predicted.positive, *predicted.undeniable}
    return change.finding in predicted.positive


def add_comparisons(draft: Draft, comparisons: Iterable[DraftSentence]) -> Draft:
    """A draft with comparisons after its findings, but for findings it already compares."""
    compared = frozenset[str]().union(
        *(_mentioned(s) for s in (*draft.findings, *draft.impression) if PRIOR in s.sources)
    )
    added = [sentence for sentence in comparisons if not compared & _mentioned(sentence)]
    return Draft((*draft.findings, *added), draft.impression)


def _mentioned(sentence: DraftSentence) -> frozenset[str]:
    stated, denied = sentence_findings(sentence.text)
    return stated | denied


def is_allowed_comparison(sentence: ParsedSentence, allowed: Iterable[DraftSentence]) -> bool:
    """Whether a model's sentence only states changes of findings that the allowed ones state."""
    allowed_changes = {
        (name, denied): stated_changes(comparison.text)
        for comparison in allowed
        for denied, names in zip((False, True), sentence_findings(comparison.text), strict=True)
        for name in names
    }
    changes = stated_changes(sentence.text)
    findings = {(s.name, s.is_denied) for s in sentence.statements if s.polarity is not None}
    return bool(findings) and all(allowed_changes.get(found) == changes for found in findings)
