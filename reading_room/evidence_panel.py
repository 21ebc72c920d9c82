"""The panels of the evidence: the retrieved reports as cards, and the patient's own prior.

A card has the verbatim text, the similarity, how a region moved it, and what it shares with the
draft. Prepares the values of ``templates/evidence.html`` and ``prior.html``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rag.report_nlp.lexicon import FindingKind
from rag.report_nlp.scopes import Polarity
from rag.report_nlp.sentences import sentence_spans, strip_list_number
from rag.report_nlp.statements import Statement, parse_sentence
from rag.review.reviewed_report import ReportLine, ReviewedReport
from rag.schema import Hit, ReportRecord, Section
from reading_room import strings
from reading_room.draft_panel import TemplateValues, line_labels
from reading_room.session import Session
from reading_room.templating import render


def rank_move(session: Session, report_id: str) -> tuple[str, str]:
    """How the region moved a report: CSS class and text, both empty if there is nothing to say."""
    before, after = _ids(session.image_hits), _ids(session.current_hits)
    if report_id not in after:
        # reports may also be cited from lower ranks, without ever being retrieved
        was_retrieved = report_id in before or report_id in _ids(session.region_hits)
        return ("dropped", strings.DROPPED) if was_retrieved else ("", "")
    if not session.region:
        return "", ""
    if report_id not in before:
        return "new", strings.NEW
    was, now = before.index(report_id) + 1, after.index(report_id) + 1
    if was == now:
        return "same", strings.SAME_RANK
    return ("up" if now < was else "down"), strings.MOVED.format("↑" if now < was else "↓", was)


def rank_summary(session: Session) -> str:
    """As in "Search steered towards effusion. 2 new, 2 dropped, 1 moved."."""
    report_ids = {*_ids(session.image_hits), *_ids(session.region_hits)}
    moves = Counter(rank_move(session, report_id)[0] for report_id in report_ids)
    finding = session.region_finding
    steered = strings.STEERED_TO.format(finding) if finding else ""
    return steered + strings.RANK_CHANGES.format(
        moves["new"], moves["dropped"], moves["up"] + moves["down"]
    )


def _ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.record.report_id for hit in hits]


def evidence_html(session: Session, *, attribution: str) -> str:
    """HTML of the evidence; sentences that the draft quotes are marked in their reports.

    Args:
        session: with the draft so far.
        attribution: licence line of the collection, shown under the cards.
    """
    report, prediction = session.report or ReviewedReport(), session.prediction
    if prediction and not session.report:
        report = ReviewedReport.from_draft(prediction.draft)
    return render(
        "evidence.html",
        cards=[
            {"rank": rank, **_card(hit, report, session)}
            for rank, hit in enumerate(session.evidence, 1)
        ],
        locked=report.signature is not None,
        attribution=attribution,
        ruled_out=session.ruled_out,
        region_summary=rank_summary(session) if session.region else "",
        region_in_draft=prediction is not None and prediction.region == session.region.to_json(),
    )


def _card(hit: Hit, report: ReviewedReport, session: Session) -> TemplateValues:
    record, labels = hit.record, line_labels(report)
    css, move = rank_move(session, record.report_id)
    lines = [line for line in report.lines if record.report_id in line.sources]
    copies = [strings.COPIES.format(hit.copies)] if hit.copies > 1 else []
    return {
        "hit": hit,
        "css": css,
        "move": move,
        "cited_by": [labels[line.key] for line in lines],
        "notes": copies + [hit.why] * bool(hit.why),
        "sections": [
            (section.value, list(_pieces(record, section, lines)))
            for section in Section
            if record.section(section)
        ],
        "comparison": _comparison(record, report),
    }


def _pieces(
    record: ReportRecord, section: Section, lines: Sequence[ReportLine]
) -> Iterator[TemplateValues]:
    """A section's text: its sentences with their numbers, and the text between them."""
    text, end = record.section(section), 0
    quoted = {_normalized(line.drafted or line.text) for line in lines}
    for number, span in enumerate(record.sentences):
        if span.section is section:
            yield {"text": text[end : span.start], "number": None}
            sentence = record.sentence(span)
            tag = "mark" if _normalized(sentence) in quoted else "span"
            yield {"text": sentence, "number": number, "tag": tag}
            end = span.end
    yield {"text": text[end:], "number": None}


def _comparison(record: ReportRecord, report: ReviewedReport) -> list[tuple[str, list[str]]]:
    """What a report shares with the draft and where they differ: kind, and findings in words.

    Statements are compared, so that "cardiomegaly" and "the heart is enlarged" are the same.
    """
    if not report.lines:
        return []
    texts = [record.sentence(span) for span in record.sentences]
    texts = texts or [record.text[start:end] for start, end in sentence_spans(record.text)]
    in_report, in_draft = _statements(texts), _statements(line.text for line in report.lines)
    compared: dict[str, dict[str, None]] = {kind: {} for kind in strings.COMPARISON}
    for key, (polarity, words) in in_report.items():
        if key in in_draft:
            agrees = _agree(polarity, in_draft[key][0])
            compared["shared" if agrees else "opposed"][words] = None
        elif polarity is not Polarity.NEGATIVE:
            compared["only_here"][words] = None
    for key, (polarity, words) in in_draft.items():
        if key not in in_report and polarity is not Polarity.NEGATIVE:
            compared["silent"][words] = None
    return [(kind, list(words)) for kind, words in compared.items() if words]


def _statements(sentences: Iterable[str]) -> dict[tuple[str, str], tuple[Polarity, str]]:
    """Polarity and words of each concept; if a text contradicts itself, presence wins."""
    statements: dict[tuple[str, str], tuple[Polarity, str]] = {}
    for sentence in sentences:
        for statement in parse_sentence(sentence).statements:
            if statement.polarity is None:
                continue
            key = statement.concept, statement.term if statement.finding.terms else ""
            known = statements.get(key)
            if known is None or known[0] is Polarity.NEGATIVE:
                statements[key] = statement.polarity, _words(sentence, statement)
    return statements


def _agree(a: Polarity, b: Polarity) -> bool:
    """Possible agrees with present; absent agrees with neither."""
    return (a is Polarity.NEGATIVE) == (b is Polarity.NEGATIVE)


def _words(sentence: str, statement: Statement) -> str:
    """As in "right pleural effusion", "no pneumothorax", "possible atelectasis", "lungs normal"."""
    words = sentence[statement.start : statement.end].lower()
    sides = " ".join(sorted(side.value for side in statement.sides))
    if sides and not any(side in words for side in sides.split()):
        words = f"{sides} {words}"
    if statement.finding.kind is FindingKind.NEUTRAL:
        return f"{words} {'normal' if statement.is_denied else 'not normal'}"
    prefixes = {Polarity.NEGATIVE: "no ", Polarity.UNCERTAIN: "possible "}
    return prefixes.get(statement.polarity or Polarity.POSITIVE, "") + words


def _normalized(text: str) -> str:
    return " ".join(strip_list_number(text).split()).casefold()


def prior_html(session: Session) -> str:
    """HTML of the prior and of what has changed since; empty without a prior."""
    if not session.prior:
        return ""
    return render("prior.html", prior=session.prior, evidence=session.prior_evidence)
