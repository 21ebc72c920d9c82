"""Does the evidence carry the draft? Checks every sentence of a draft against what it cites.

Owns how verdicts come about; `rag.grounding.verdicts` says what they mean, `rag.grounding.claims`
when two statements agree. Judges text only: knows no prompt, no model and no store. Reports that
disagree with one another are no fault of a sentence that cites one of them; they are counted in the
votes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rag.change import Change
from rag.drafting.comparisons import stated_changes
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

_DENY_BELOW, _AFFIRM_ABOVE = 0.02, 0.7
"""A label less probable than one contradicts that its finding is there; one more probable than the
other, that it is not."""


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
        prior: text of the patient's own earlier report: what `PRIOR` cites, for comparisons alone.
            Without it all talk of change is invented.
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
    record = ReportRecord(
        PRIOR, study_id="", patient_id="", findings=blank_non_image_sections(text)
    )
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
        cited = {s: self.evidence[s] for s in sentence.sources if s in self.evidence}
        issues = [*self._source_issues(sentence), *self._own_issues(parsed, claims)]
        issues += self._image_issues(claims)
        copied = [e for es in cited.values() for e in es if same_text(e.parsed.text, text)]
        compares = PRIOR in sentence.sources and bool(parsed.prior_mentions)
        if compares and self.prior_text:
            support, found = self._compare(stated_changes(text), claims)
            issues += found
        elif copied:
            support = [replace(e.place, verbatim=True) for e in copied]
        else:
            support, found = self._weigh(parsed, claims, cited)
            issues += found
        verdict = _verdict(issues, supported=bool(support))
        # One report may carry several claims with one sentence.
        return SentenceCheck(
            section, sentence, verdict, tuple(issues), tuple(dict.fromkeys(support))
        )

    def _weigh(
        self,
        parsed: ParsedSentence,
        claims: list[Statement],
        cited: Mapping[str, list[EvidenceSentence]],
    ) -> tuple[list[Support], list[Issue]]:
        sentences = [sentence for report in cited.values() for sentence in report]
        if not claims:
            return compare_words(parsed, sentences)
        support: list[Support] = []
        issues: list[Issue] = []
        for claim in claims:
            fits = [self._in_report(claim, report) for report in cited.values()]
            carried = [s for fit, s, _ in fits if fit in (Entailment.SAME, Entailment.PARTLY) and s]
            support += carried
            conflicts = [i for fit, _, found in fits if fit is Entailment.CONFLICT for i in found]
            if conflicts or any(fit is Entailment.SAME for fit, _, _ in fits):
                issues += conflicts
            elif carried:
                issues += next(found for fit, _, found in fits if fit is Entailment.PARTLY)
            else:
                reason = (
                    Reason.DEVICE if claim.finding.kind is FindingKind.DEVICE else Reason.FINDING
                )
                issues.append(_issue(reason, claim))
        if support:
            issues += number_issues(parsed, claims, sentences)
            issues += unsupported_word_issues(parsed, claims, sentences)
            rests_on = [s for s in sentences if s.place in support]
            issues += self._leftovers(parsed, claims, rests_on, issues)
        return support, issues

    def _leftovers(
        self,
        parsed: ParsedSentence,
        claims: list[Statement],
        rests_on: list[EvidenceSentence],
        issues: list[Issue],
    ) -> list[Issue]:
        """Denials, sides and sizes of the sentence that no claim accounts for."""
        if any(issue.conflict for issue in issues):
            return []  # contradicted already; what is left over would only be noise
        reasons = {issue.reason for issue in issues}
        added = [i for i in attribute_issues(parsed, rests_on) if i.reason not in reasons]
        if reasons & {Reason.FINDING, Reason.DEVICE}:
            # They may have been said of what the evidence does not speak of at all.
            added = [replace(issue, conflict=False) for issue in added]
        return [*denial_issues(parsed, claims, rests_on), *added]

    def _compare(
        self, said: frozenset[Change], claims: list[Statement]
    ) -> tuple[list[Support], list[Issue]]:
        """Does the prior report bear out a comparison: what is new was not there, all else was?"""
        support: list[Support] = []
        issues: list[Issue] = []
        for claim in claims:
            theirs = [(s, c) for s in self.prior for c in s.claims if c.concept == claim.concept]
            there = [s for s, c in theirs if not c.is_denied]
            if (said == {Change.NEW}) == bool(there):
                issues.append(_issue(Reason.PRIOR, claim, PRIOR, conflict=bool(theirs)))
            else:
                whole = Span(Section.FINDINGS, 0, len(self.prior_text))
                support += [s.place for s, _ in theirs] or [Support(PRIOR, whole)]
        return support, issues

    def _in_report(
        self, claim: Statement, report: list[EvidenceSentence]
    ) -> tuple[Entailment, Support | None, list[Issue]]:
        compared, number = compare_with_report(claim, [sentence.claims for sentence in report])
        if number is None:
            return Entailment.SILENT, None, []
        sentence = report[number]
        conflict = compared.fit is Entailment.CONFLICT
        issues = [
            _issue(difference, claim, sentence.place.report_id, conflict=conflict)
            for difference in compared.differences
        ]
        return compared.fit, None if conflict else sentence.place, issues

    def _source_issues(self, sentence: DraftSentence) -> Iterator[Issue]:
        if not sentence.sources:
            yield Issue(Reason.NO_SOURCE, "")
        for source in sentence.sources:
            if source not in self.evidence and not (source == PRIOR and self.prior_text):
                yield Issue(Reason.UNKNOWN_SOURCE, source)

    def _own_issues(self, parsed: ParsedSentence, claims: list[Statement]) -> Iterator[Issue]:
        """Talk of a prior that was not given, and hidden words: wrong whatever the evidence."""
        known = {claim.concept for sentence in self.prior for claim in sentence.claims}
        supported = bool(claims) and all(claim.concept in known for claim in claims)
        if not (supported or (self.prior_text and stated_changes(parsed.text) == {Change.NEW})):
            for start, end in parsed.prior_mentions:
                yield Issue(Reason.PRIOR, parsed.text[start:end], start=start, end=end)
        if parsed.has_placeholder:
            yield Issue(Reason.PLACEHOLDER, "")

    def _image_issues(self, claims: Iterable[Statement]) -> Iterator[Issue]:
        for claim in claims:
            probability = self.image_labels.get(claim.label)
            if probability is None:
                continue
            denied = claim.polarity is Polarity.POSITIVE and probability < _DENY_BELOW
            affirmed = claim.is_denied and probability > _AFFIRM_ABOVE
            if denied or affirmed:
                yield _issue(Reason.IMAGE, claim)

    def votes(self, claims: Iterable[Statement]) -> Iterator[Vote]:
        """One vote for each finding that the draft mentions, in its order."""
        labels = {claim.concept: claim.label for claim in claims}
        ranked = (Polarity.POSITIVE, Polarity.UNCERTAIN, Polarity.NEGATIVE)
        for concept, label in labels.items():
            said: dict[Polarity, list[str]] = {polarity: [] for polarity in ranked}
            for report_id, report in self.evidence.items():
                stated = {c.polarity for s in report for c in s.claims if c.concept == concept}
                if stated:
                    said[next(p for p in ranked if p in stated)].append(report_id)
            present, possible, absent = map(tuple, said.values())
            probability = self.image_labels.get(label)
            yield Vote(concept, label, present, possible, absent, len(self.evidence), probability)


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
