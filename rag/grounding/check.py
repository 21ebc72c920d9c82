"""Checks every sentence of a draft against the reports it cites.

Owns how a verdict is reached; `rag.grounding.verdicts` says what verdicts mean,
`rag.grounding.claims` when two statements agree. Judges text only: knows no prompt, no model and no
index. Disagreement among reports does not count against a sentence that cites one of them; the
votes show it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rag.change import Change, stated_changes
from rag.grounding.claims import Entailment, claims_of, compare_with_report
from rag.grounding.evidence import (
    EvidenceSentence,
    attribute_issues,
    compare_words,
    denial_issues,
    number_issues,
    read_evidence,
    same_text,
    unsupported_word_issues,
)
from rag.grounding.verdicts import DraftCheck, Issue, Reason, SentenceCheck, Support, Verdict, Vote
from rag.report_nlp.labeller import blank_non_image_sections
from rag.report_nlp.lexicon import FindingKind
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.sentences import strip_list_number
from rag.report_nlp.statements import ParsedSentence, Statement, parse_sentence
from rag.schema import PRIOR, Draft, DraftSentence, Hit, ReportRecord, Section, Span

_ABSENT_BELOW, _PRESENT_ABOVE = 0.02, 0.7
"""Label probabilities that contradict a finding, and its denial."""


def check_draft(
    draft: Draft,
    hits: Sequence[Hit],
    *,
    image_labels: Mapping[str, float] | None = None,
    prior: str = "",
) -> DraftCheck:
    """Check every sentence of a draft.

    Args:
        draft: sentences with the ids of the reports they cite.
        hits: the retrieved reports.
        image_labels: probability in [0, 1] of CheXpert-14 labels of the image, where known.
        prior: text of the patient's own earlier report, which only comparisons may cite as `PRIOR`.
            Without it every mention of change is an issue.
    """
    checker = _Checker(
        evidence=read_evidence(hits),
        image_labels=image_labels or {},
        prior=_read_prior(prior),
        prior_text=prior,
    )
    checks = tuple(
        checker.check(section, sentence)
        for section in Section
        for sentence in draft.section(section)
    )
    claims = [c for check in checks for c in claims_of(parse_sentence(check.sentence.text))]
    return DraftCheck(checks, tuple(checker.votes(claims)))


def _read_prior(text: str) -> list[EvidenceSentence]:
    """Sentences of the prior report that describe its image; spans are offsets in the text."""
    findings = blank_non_image_sections(text)
    record = ReportRecord(PRIOR, study_id="", patient_id="", findings=findings)
    return read_evidence([Hit(record, similarity=1.0)])[PRIOR]


@dataclass(frozen=True, slots=True)
class _Checker:
    evidence: Mapping[str, list[EvidenceSentence]]
    image_labels: Mapping[str, float]
    prior: list[EvidenceSentence]
    prior_text: str

    def check(self, section: Section, sentence: DraftSentence) -> SentenceCheck:
        text = strip_list_number(sentence.text)
        parsed = parse_sentence(text)
        claims = claims_of(parsed)
        sources = dict.fromkeys(sentence.sources)
        cited = [self.evidence[source] for source in sources if source in self.evidence]
        copied = [e for report in cited for e in report if same_text(e.parsed.text, text)]
        is_comparison = PRIOR in sentence.sources and bool(parsed.prior_mentions)
        issues = [
            *self._source_issues(sentence),
            *self._prior_issues(parsed, claims),
            *([Issue(Reason.PLACEHOLDER, "")] if parsed.has_placeholder else []),
            *self._image_issues(claims),
        ]
        if is_comparison and self.prior_text:
            support, found = self._check_comparison(stated_changes(text), claims)
        elif copied:
            support, found = [replace(e.support, verbatim=True) for e in copied], []
        else:
            support, found = _check_claims(parsed, claims, cited)
        issues += found
        verdict = _verdict(issues, supported=bool(support))
        # one sentence of a report may support several claims
        unique = tuple(dict.fromkeys(support))
        return SentenceCheck(section, sentence, verdict, tuple(issues), unique)

    def _check_comparison(
        self, changes: frozenset[Change], claims: list[Statement]
    ) -> tuple[list[Support], list[Issue]]:
        """Whether the prior report agrees: what is new was absent, anything else was present."""
        support: list[Support] = []
        issues: list[Issue] = []
        for claim in claims:
            in_prior = [(s, c) for s in self.prior for c in s.claims if c.concept == claim.concept]
            was_present = any(not c.is_denied for _, c in in_prior)
            if (changes == {Change.NEW}) == was_present:
                issues.append(_issue(Reason.PRIOR, claim, PRIOR, conflict=bool(in_prior)))
            else:
                whole = Span(Section.FINDINGS, 0, len(self.prior_text))
                support += [s.support for s, _ in in_prior] or [Support(PRIOR, whole)]
        return support, issues

    def _source_issues(self, sentence: DraftSentence) -> Iterator[Issue]:
        if not sentence.sources:
            yield Issue(Reason.NO_SOURCE, "")
        for source in sentence.sources:
            if source not in self.evidence and not (source == PRIOR and self.prior_text):
                yield Issue(Reason.UNKNOWN_SOURCE, source)

    def _prior_issues(self, parsed: ParsedSentence, claims: list[Statement]) -> Iterator[Issue]:
        """Mentions of a prior without one that speaks of the same findings."""
        in_prior = {claim.concept for sentence in self.prior for claim in sentence.claims}
        known = bool(claims) and all(claim.concept in in_prior for claim in claims)
        if not (known or (self.prior_text and stated_changes(parsed.text) == {Change.NEW})):
            for start, end in parsed.prior_mentions:
                yield Issue(Reason.PRIOR, parsed.text[start:end], start=start, end=end)

    def _image_issues(self, claims: Iterable[Statement]) -> Iterator[Issue]:
        for claim in claims:
            probability = self.image_labels.get(claim.label)
            if probability is None:
                continue
            absent = claim.polarity is Polarity.POSITIVE and probability < _ABSENT_BELOW
            present = claim.is_denied and probability > _PRESENT_ABOVE
            if absent or present:
                yield _issue(Reason.IMAGE, claim)

    def votes(self, claims: Iterable[Statement]) -> Iterator[Vote]:
        """One vote for each finding that the draft mentions, in its order."""
        labels = {claim.concept: claim.label for claim in claims}
        ranked = (Polarity.POSITIVE, Polarity.UNCERTAIN, Polarity.NEGATIVE)
        for concept, label in labels.items():
            report_ids: dict[Polarity, list[str]] = {polarity: [] for polarity in ranked}
            for report_id, report in self.evidence.items():
                stated = {c.polarity for s in report for c in s.claims if c.concept == concept}
                if stated:
                    report_ids[next(p for p in ranked if p in stated)].append(report_id)
            present, possible, absent = map(tuple, report_ids.values())
            probability = self.image_labels.get(label)
            yield Vote(concept, label, present, possible, absent, len(self.evidence), probability)


def _check_claims(
    parsed: ParsedSentence, claims: list[Statement], cited: list[list[EvidenceSentence]]
) -> tuple[list[Support], list[Issue]]:
    sentences = [sentence for report in cited for sentence in report]
    if not claims:
        return compare_words(parsed, sentences)
    support: list[Support] = []
    issues: list[Issue] = []
    for claim in claims:
        results = [_check_claim(claim, report) for report in cited]
        by_report = [s for entailment, s, _ in results if s and entailment in _SUPPORTING]
        support += by_report
        conflicts = [i for e, _, found in results if e is Entailment.CONFLICT for i in found]
        if conflicts or any(e is Entailment.SAME for e, _, _ in results):
            issues += conflicts
        elif by_report:
            issues += next(found for e, _, found in results if e is Entailment.PARTLY)
        else:
            is_device = claim.finding.kind is FindingKind.DEVICE
            issues.append(_issue(Reason.DEVICE if is_device else Reason.FINDING, claim))
    if support:
        issues += number_issues(parsed, claims, sentences)
        issues += unsupported_word_issues(parsed, claims, sentences)
        supporting = [sentence for sentence in sentences if sentence.support in support]
        issues += _unclaimed_issues(parsed, claims, supporting, issues)
    return support, issues


_SUPPORTING = (Entailment.SAME, Entailment.PARTLY)


def _check_claim(
    claim: Statement, report: list[EvidenceSentence]
) -> tuple[Entailment, Support | None, list[Issue]]:
    comparison, index = compare_with_report(claim, [sentence.claims for sentence in report])
    if index is None:
        return Entailment.SILENT, None, []
    support = report[index].support
    conflict = comparison.entailment is Entailment.CONFLICT
    issues = [
        _issue(difference, claim, support.report_id, conflict=conflict)
        for difference in comparison.differences
    ]
    return comparison.entailment, None if conflict else support, issues


def _unclaimed_issues(
    parsed: ParsedSentence,
    claims: list[Statement],
    supporting: list[EvidenceSentence],
    issues: list[Issue],
) -> list[Issue]:
    """Negations, sides and sizes of the sentence that belong to none of its claims."""
    if any(issue.conflict for issue in issues):
        return []  # more issues would only be noise
    reasons = {issue.reason for issue in issues}
    added = [i for i in attribute_issues(parsed, supporting) if i.reason not in reasons]
    if reasons & {Reason.FINDING, Reason.DEVICE}:
        # they may describe a finding that the evidence does not mention
        added = [replace(issue, conflict=False) for issue in added]
    return [*denial_issues(parsed, claims, supporting), *added]


def _issue(
    reason: Reason, claim: Statement, report_id: str = "", *, conflict: bool = False
) -> Issue:
    return Issue(reason, claim.concept, report_id, claim.start, claim.end, conflict)


def _verdict(issues: Sequence[Issue], *, supported: bool) -> Verdict:
    if any(issue.conflict for issue in issues):
        return Verdict.CONTRADICTED
    if any(issue.reason is Reason.IMAGE for issue in issues):
        return Verdict.CONTRADICTED_BY_IMAGE
    if not supported:
        return Verdict.UNSUPPORTED
    return Verdict.PARTLY if issues else Verdict.SUPPORTED
