"""The retrieved reports as cards: verbatim text, similarity, what they share with the draft.

How a region changed their ranking; and the patient's own earlier study, with what has changed.
Prepares what ``templates/evidence.html`` and ``prior.html`` show.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rag.change import Change
from rag.report_nlp.lexicon import FindingKind
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.sentences import sentence_spans, strip_list_number
from rag.report_nlp.statements import Statement, parse_sentence
from rag.review.reviewed_report import ReportLine, ReviewedReport
from rag.schema import Hit, ReportRecord, Section
from reading_room import strings
from reading_room.draft_panel import View, places
from reading_room.session import Session
from reading_room.templating import render


@dataclass(frozen=True, slots=True)
class RankChanges:
    """Ranking before and after.

    Attributes:
        before: report ids without the region, best first.
        after: with it.
        has_region: whether the reader has marked one.
        in_draft: whether the draft was made with just this region.
        earlier: retrieved for the last region, also after it was cleared.
        finding: that the region steered the search to.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    has_region: bool
    in_draft: bool
    earlier: tuple[str, ...] = ()
    finding: str = ""

    def mark(self, report_id: str) -> tuple[str, str]:
        """CSS class and text for a card; both empty where there is nothing to say."""
        if report_id not in self.after:
            # one that was never retrieved is cited from further away
            known = report_id in self.before or report_id in self.earlier
            return ("dropped", strings.DROPPED) if known else ("", "")
        if not self.has_region:
            return "", ""
        if report_id not in self.before:
            return "new", strings.NEW
        was, now = self.before.index(report_id) + 1, self.after.index(report_id) + 1
        if was == now:
            return "same", strings.SAME_RANK
        return ("up" if now < was else "down"), strings.MOVED.format("↑" if now < was else "↓", was)

    @property
    def summary(self) -> str:
        """As in "Search steered to: effusion. 2 new, 2 dropped, 1 moved."."""
        kinds = Counter(self.mark(each)[0] for each in {*self.before, *self.after})
        moved = kinds["up"] + kinds["down"]
        towards = strings.STEERED_TO.format(self.finding) if self.finding else ""
        return towards + strings.RANK_CHANGES.format(kinds["new"], kinds["dropped"], moved)


def rank_changes(session: Session) -> RankChanges:
    """The changes in a session."""
    made_with = session.prediction.region if session.prediction else {}
    return RankChanges(
        before=tuple(hit.record.report_id for hit in session.image_hits),
        after=tuple(hit.record.report_id for hit in session.current_hits),
        has_region=bool(session.region),
        in_draft=bool(session.prediction) and made_with == session.region.to_json(),
        earlier=tuple(hit.record.report_id for hit in session.region_hits),
        finding=session.region_finding,
    )


def evidence_html(session: Session, *, attribution: str) -> str:
    """HTML of the evidence; sentences that the draft quotes are marked in their reports.

    Args:
        session: its draft counts as far as it has come.
        attribution: licence line of the collection, shown under the cards.
    """
    report, changes = session.report or ReviewedReport(), rank_changes(session)
    if session.prediction and not session.report:
        report = ReviewedReport.from_draft(session.prediction.draft)
    return render(
        "evidence.html",
        cards=[
            {"rank": rank, **_card(hit, report, changes)}
            for rank, hit in enumerate(session.evidence, 1)
        ],
        locked=report.signature is not None,
        attribution=attribution,
        ruled_out=session.ruled_out,
        changes=changes,
    )


def _card(hit: Hit, report: ReviewedReport, changes: RankChanges) -> View:
    record, place = hit.record, places(report)
    css, move = changes.mark(record.report_id)
    lines = [line for line in report.lines if record.report_id in line.sources]
    copies = [strings.COPIES.format(hit.copies)] if hit.copies > 1 else []
    return {
        "hit": hit,
        "css": css,
        "move": move,
        "cited_by": [place[line.key] for line in lines],
        "notes": copies + [hit.why] * bool(hit.why),
        "sections": [
            (section.value, list(_pieces(record, section, lines)))
            for section in Section
            if record.section(section)
        ],
        "comparison": _comparison(record, report),
    }


def _pieces(record: ReportRecord, section: Section, lines: Sequence[ReportLine]) -> Iterator[View]:
    """The section's text: its sentences with their numbers, and the characters between them."""
    text, last = record.section(section), 0
    quoted = {_normalized(line.drafted or line.text) for line in lines}
    for number, span in enumerate(record.sentences):
        if span.section is section:
            yield {"text": text[last : span.start], "number": None}
            sentence = record.sentence(span)
            tag = "mark" if _normalized(sentence) in quoted else "span"
            yield {"text": sentence, "number": number, "tag": tag}
            last = span.end
    yield {"text": text[last:], "number": None}


def _comparison(record: ReportRecord, report: ReviewedReport) -> list[tuple[str, list[str]]]:
    """What a report shares with the draft, and where they differ, in words, each once.

    Statements are compared, so that "cardiomegaly" and "the heart is enlarged" are the same.
    """
    if not report.lines:
        return []
    texts = [record.sentence(span) for span in record.sentences]
    texts = texts or [record.text[start:end] for start, end in sentence_spans(record.text)]
    here, there = _statements(texts), _statements(line.text for line in report.lines)
    found: dict[str, dict[str, None]] = {name: {} for name in strings.COMPARISON}
    for key, (polarity, words) in here.items():
        if key in there:
            found["shared" if _agree(polarity, there[key][0]) else "opposed"][words] = None
        elif polarity is not Polarity.NEGATIVE:
            found["only_here"][words] = None
    for key, (polarity, words) in there.items():
        if key not in here and polarity is not Polarity.NEGATIVE:
            found["silent"][words] = None
    return [(name, list(words)) for name, words in found.items() if words]


def _statements(sentences: Iterable[str]) -> dict[tuple[str, str], tuple[Polarity, str]]:
    """Polarity and words of each concept; where a text disagrees with itself, presence wins."""
    found: dict[tuple[str, str], tuple[Polarity, str]] = {}
    for sentence in sentences:
        for statement in parse_sentence(sentence).statements:
            if statement.polarity is None:
                continue
            key = statement.concept, statement.term if statement.finding.terms else ""
            known = found.get(key)
            if known is None or known[0] is Polarity.NEGATIVE:
                found[key] = statement.polarity, _words(sentence, statement)
    return found


def _agree(a: Polarity, b: Polarity) -> bool:
    """Possible and present agree; absent does not."""
    return (a is Polarity.NEGATIVE) == (b is Polarity.NEGATIVE)


def _words(sentence: str, statement: Statement) -> str:
    """As in "right pleural effusion", "no pneumothorax", "possible atelectasis", "lungs normal"."""
    words = sentence[statement.start : statement.end].lower()
    sides = " ".join(sorted(side.value for side in statement.sides))
    if sides and not any(side in words for side in sides.split()):
        words = f"{sides} {words}"
    if statement.finding.kind is FindingKind.NEUTRAL:
        return f"{words} {'normal' if statement.is_denied else 'not normal'}"
    before = {Polarity.NEGATIVE: "no ", Polarity.UNCERTAIN: "possible "}
    return before.get(statement.polarity or Polarity.POSITIVE, "") + words


def _normalized(text: str) -> str:
    return " ".join(strip_list_number(text).split()).casefold()


SIGNS = {
    Change.NEW: "+",
    Change.PERSISTS: "=",
    Change.RESOLVED: "✓",
    Change.CANNOT_TELL: "?",
}


def prior_html(session: Session) -> str:
    """HTML of the prior; empty where there is none."""
    if not session.prior:
        return ""
    return render("prior.html", prior=session.prior, found=session.compared, signs=SIGNS)
