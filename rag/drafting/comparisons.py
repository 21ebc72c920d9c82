"""Sentences of a draft that compare with the patient's own prior.

Owns their words, and what such a sentence may say: a verdict of `rag.change` on findings that may
be stated of the image anyway. Everything else that speaks of an earlier image stays out.
"""

import re
from collections.abc import Iterable

from rag.change import Change, FindingChange, PriorEvidence
from rag.report_nlp.statements import ParsedSentence
from rag.report_reading import sentence_findings
from rag.schema import PRIOR, Draft, DraftSentence, PredictedFindings

_MOST = 4
_SENTENCES = {
    Change.NEW: "{} is new since the prior study.",
    Change.PERSISTS: "{} is again seen, as in the prior study.",
    Change.RESOLVED: "{} of the prior study is no longer seen.",
}
_WORDS = {
    Change.NEW: r"new|newly|(?:has|have) (?:developed|appeared)|development",
    Change.RESOLVED: r"no longer|resolved|resolution|cleared|disappeared|removed",
    Change.WORSE: r"increas\w+|worse\w*|enlarg(?:ing|ement)|larger|progress\w+|more extensive",
    Change.BETTER: r"decreas\w+|improv\w+|smaller|better|reduc\w+|diminish\w+|regress\w+|less",
    Change.PERSISTS: r"again|persist\w*|remain\w*|still|continu\w+|residual|re-?demonstrated",
    Change.CANNOT_TELL: r"unchanged|stable|similar|same|constant|change|recurren\w+",
}
"""What tells a change; that nothing changed, in size neither, is more than any verdict says."""
_PATTERNS = {
    change: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for change, words in _WORDS.items()
}


def prior_comparisons(
    prior: PriorEvidence, predicted: PredictedFindings
) -> tuple[DraftSentence, ...]:
    """What a draft may say of change, most certain first; nothing without a prior report.

    Under the same control of risk as all else: what is new or persists is stated only where the
    finding may be stated of the image, what has resolved only where it may be denied.
    """
    found = []
    for change in prior.changes if prior.report else ():
        if change.verdict not in _SENTENCES or not _permitted(change, predicted):
            continue
        text = _SENTENCES[change.verdict].format(change.name.capitalize())
        stated, denied = sentence_findings(text)
        read = denied if change.verdict is Change.RESOLVED else stated
        if change.finding in read and not stated & denied:  # "pleural other" is no phrase
            found.append(DraftSentence(text, (PRIOR,)))
    return tuple(found[:_MOST])


def _permitted(change: FindingChange, predicted: PredictedFindings) -> bool:
    if change.verdict is Change.RESOLVED:
        return change.finding not in {*predicted.positive, *predicted.undeniable}
    return change.finding in predicted.positive


def with_comparisons(draft: Draft, comparisons: Iterable[DraftSentence]) -> Draft:
    """A draft with these comparisons after its findings, where it does not make them itself."""
    made = frozenset[str]().union(
        *(_named(s) for s in (*draft.findings, *draft.impression) if PRIOR in s.sources)
    )
    new = [sentence for sentence in comparisons if not made & _named(sentence)]
    return Draft((*draft.findings, *new), draft.impression)


def _named(sentence: DraftSentence) -> frozenset[str]:
    stated, denied = sentence_findings(sentence.text)
    return stated | denied


def stated_changes(text: str) -> frozenset[Change]:
    """What a sentence says became of what it speaks of."""
    return frozenset(change for change, pattern in _PATTERNS.items() if pattern.search(text))


def is_allowed_comparison(reading: ParsedSentence, allowed: Iterable[DraftSentence]) -> bool:
    """Whether a sentence of a model compares as these do: the same findings, the same change."""
    changes = {
        (name, denied): stated_changes(sentence.text)
        for sentence in allowed
        for denied, names in zip((False, True), sentence_findings(sentence.text), strict=True)
        for name in names
    }
    said = stated_changes(reading.text)
    stated = {(s.name, s.is_denied) for s in reading.statements if s.polarity is not None}
    return bool(stated) and all(changes.get(each) == said for each in stated)
