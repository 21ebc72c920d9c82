"""The draft as HTML: each sentence with its verdict, its sources, and what can be done with it.

Owns what stands in the panel; ``static/draft.js`` makes it answer to mouse and keys.
"""

from collections.abc import Mapping, Sequence
from html import escape

from rag.grounding.contradictions import contradictions
from rag.grounding.verdicts import DraftCheck, SentenceCheck, Vote
from rag.prediction import Prediction
from rag.report_nlp.statements import read_sentence
from rag.review.reviewed_report import Decision, Line, ReviewedReport
from rag.schema import DraftSentence, ReportRecord, Section, Span, Status
from reading_room import strings
from reading_room.sign_panel import moment
from reading_room.verdict_icons import CITED_WORDS, image_words, issue_words, mark_of


def draft_html(
    prediction: Prediction | None,
    report: ReviewedReport | None = None,
    check: DraftCheck | None = None,
    *,
    phrases: Mapping[Section, tuple[str, ...]] | None = None,
) -> str:
    """HTML of the draft as far as it has come; None stands for an empty page.

    Args:
        prediction: what the pipeline has found so far.
        report: the draft in its reader's hands, once there is one.
        check: verdicts on the sentences of ``report``, in its order.
        phrases: normal phrases offered when a sentence is added.
    """
    if prediction is None:
        return f'<div class="hint">{strings.WAITING_DRAFT}</div>'
    failed = prediction.status in (Status.FAILED, Status.ABSTAINED)
    parts = [_no_draft(prediction)] if failed else []
    if report is None:
        if not failed:
            parts += [_growing(prediction, section) for section in Section]
            parts.append(f'<p class="progress" role="status">{_progress(prediction)}</p>')
    else:
        lines, clashes = _with_checks(report, check), _clashes(report)
        parts += [
            _section(section, lines, prediction, report, phrases or {}, clashes=clashes)
            for section in Section
        ]
        parts.append(_hints(prediction, report))
        parts.append(_votes(check.votes if check else ()))
        parts.append(_addenda(report))
    parts += [f'<p class="note">{escape(text)}</p>' for text in prediction.warnings]
    locked = " locked" if report and report.signature else ""
    return f'<div class="draft{locked}">{"".join(parts)}</div>'


def anchor(report_id: str) -> str:
    """The id of a report's card on the page."""
    return "report-" + escape(report_id, quote=True)


def _no_draft(prediction: Prediction) -> str:
    title = strings.ABSTAINED if prediction.status is Status.ABSTAINED else strings.NO_DRAFT
    cure = f"<p>{strings.EVIDENCE_ONLY}</p>" if prediction.hits else ""
    return (
        f'<div class="no-draft" role="alert"><b>{title}</b> '
        f'<span class="kind">{escape(prediction.error)}</span>'
        f"<p>{escape(prediction.reason)}</p>{cure}</div>"
    )


def _growing(prediction: Prediction, section: Section) -> str:
    """A section that is still being drafted: to be read, not yet to be touched."""
    lines = [
        Line(key, section, sentence.text, sentence.sources)
        for key, sentence in enumerate(prediction.draft.section(section))
    ]
    body = "".join(_line(line, None, prediction, number=n) for n, line in enumerate(lines, 1))
    body = f"<ol>{body}</ol>" if body else '<p class="hint">…</p>'
    return f"<section><h3>{_title(section)}</h3>{body}</section>"


def _section(
    section: Section,
    lines: list[tuple[Line, SentenceCheck | None]],
    prediction: Prediction,
    report: ReviewedReport,
    phrases: Mapping[Section, tuple[str, ...]],
    *,
    clashes: Mapping[int, list[str]],
) -> str:
    here = [(line, check) for line, check in lines if line.section is section]
    open_ = report.signature is None
    body = "".join(
        _line(
            line,
            check,
            prediction,
            number=number,
            acts=open_,
            clashes=clashes.get(line.key, ()),
        )
        for number, (line, check) in enumerate(here, 1)
    )
    body = f"<ol>{body}</ol>" if body else f'<p class="hint">{strings.EMPTY_SECTION}</p>'
    adder = _adder(section, phrases) if open_ else ""
    return f"<section><h3>{_title(section)}</h3>{body}{adder}</section>"


def _line(
    line: Line,
    check: SentenceCheck | None,
    prediction: Prediction,
    *,
    number: int,
    acts: bool = False,
    clashes: Sequence[str] = (),
) -> str:
    image = prediction.image_mark(DraftSentence(line.text, line.sources)) if check else None
    mark = mark_of(check, line, image)
    place = f"{line.section.value[0].upper()}{number}"
    state = f'<span class="decision">{strings.DECISIONS[line.decision.value]}</span>'
    cited = f": {CITED_WORDS[check.cited]}" if check and mark.word == "cited" else ""
    word = f'<span class="word">{mark.word}{cited}</span>'
    if image is not None:
        sign, words = image_words(image)
        css = image.verdict.value.replace(" ", "-")
        word += f' <span class="image {css}"><span aria-hidden="true">{sign}</span> {words}</span>'
    issues = "".join(f"<li>{escape(issue_words(i))}</li>" for i in (check.issues if check else ()))
    issues = f'<ul class="issues">{issues}</ul>' if issues and mark.css != "own" else ""
    clash = strings.CLASHES.format(", ".join(clashes)) if clashes else ""
    clash = f'<p class="clash"><span aria-hidden="true">⚡</span> {clash}</p>' if clash else ""
    focus = ' tabindex="-1"' if acts else ""
    return (
        f'<li class="line {mark.css} {line.decision.value}" data-line="{line.key}"{focus} '
        f'id="line-{place}"><span class="sign" aria-hidden="true">{mark.sign}</span>'
        f'<div class="body"><span class="text">{escape(line.text)}</span> '
        f'{_citations(line, prediction)}{issues}{clash}<div class="meta"><span class="verdict">'
        f'<span class="place">{place}</span> {word} {state}</span>{_acts(line) if acts else ""}'
        f"</div>{_sources(line, check, prediction)}</div></li>"
    )


def _citations(line: Line, prediction: Prediction) -> str:
    ranks = {hit.record.report_id: hit.rank for hit in prediction.hits}
    links = "".join(
        f'<a class="cite" href="#{anchor(report_id)}" title="{escape(report_id)}"'
        f' aria-label="{strings.SOURCE} {escape(report_id)}">{ranks.get(report_id, "?")}</a>'
        for report_id in line.sources
    )
    return f'<span class="cites">{links}</span>'


def _sources(line: Line, check: SentenceCheck | None, prediction: Prediction) -> str:
    """What the cited reports say: shown beside the draft while the sentence is looked at."""
    records = {hit.record.report_id: hit.record for hit in prediction.hits}
    quotes = []
    for report_id in line.sources:
        record = records.get(report_id)
        if record is not None:
            quotes.append(f"<b>{escape(report_id)}</b> {_quote(record, line, check)}")
    if not quotes:
        return f'<div class="sources" hidden>{strings.NO_SOURCE}</div>'
    items = "".join(f"<li>{quote}</li>" for quote in quotes)
    return f'<div class="sources" hidden><ul>{items}</ul></div>'


def _quote(record: ReportRecord, line: Line, check: SentenceCheck | None) -> str:
    """What a report says to a sentence: what carries it, else what is said of the same thing."""
    spans = [s.span for s in check.support if s.report_id == record.report_id] if check else []
    if not spans and check is None:
        spans = [s for s in record.sentences if line.text.strip() in record.sentence(s)]
    if spans:
        return _quoted(record, spans)
    same = _concepts(line.text)
    spans = [span for span in record.sentences if _concepts(record.sentence(span)) & same]
    if spans:
        return f"<i>{strings.SAYS_INSTEAD}</i> {_quoted(record, spans)}"
    return f"<i>{strings.NOTHING_LIKE_IT}</i>"


def _quoted(record: ReportRecord, spans: list[Span]) -> str:
    unique = dict.fromkeys(record.sentence(span) for span in spans)
    return " … ".join(f"“{escape(text)}”" for text in unique)


def _concepts(sentence: str) -> frozenset[str]:
    """Findings that a sentence speaks of."""
    return frozenset(
        statement.concept for statement in read_sentence(sentence).statements if statement.polarity
    )


def _acts(line: Line) -> str:
    buttons = [
        ("accept", strings.ACCEPT, "A", line.decision is Decision.OPEN),
        ("edit", strings.EDIT, "E", True),
        ("remove", strings.REMOVE, "X", True),
    ]
    return (
        '<div class="acts">'
        + "".join(
            f'<button type="button" data-op="{op}" tabindex="-1" title="{word} ({key})">'
            f"{word}</button>"
            for op, word, key, possible in buttons
            if possible
        )
        + "</div>"
    )


def _adder(section: Section, phrases: Mapping[Section, tuple[str, ...]]) -> str:
    options = "".join(f"<option>{escape(text)}</option>" for text in phrases.get(section, ()))
    name = section.value
    return (
        f'<div class="adder"><input type="text" data-add="{name}" list="phrases-{name}" '
        f'maxlength="2000" autocomplete="off" placeholder="{strings.ADD_HINT}" '
        f'aria-label="{strings.ADD_TO} {name}"><datalist id="phrases-{name}">{options}</datalist>'
        f'<button type="button" data-op="add">{strings.ADD}</button></div>'
    )


def _hints(prediction: Prediction, report: ReviewedReport) -> str:
    """Findings below the reporting threshold, each with a sentence that one click inserts."""
    said = {line.text for line in report.lines}
    rows = [
        f"<li><b>{escape(hint.finding.replace('_', ' ').lower())}</b> {hint.probability:.2f} "
        f'<button type="button" data-op="hint" data-number="{number}" '
        f'title="{escape(", ".join(hint.sentence.sources))}">{strings.INSERT} '
        f"“{escape(hint.sentence.text)}”</button></li>"
        for number, hint in enumerate(prediction.hints)
        if hint.sentence.text not in said
    ]
    if not rows or report.signature is not None:
        return ""
    return f'<div class="hints"><h3>{strings.LOOK_FOR}</h3><ul>{"".join(rows)}</ul></div>'


def _votes(votes: tuple[Vote, ...]) -> str:
    """For each finding of the draft: which reports say so, and what the image's labels say."""
    if not votes:
        return ""
    rows = "".join(_vote(vote) for vote in votes)
    head = "".join(f"<th>{title}</th>" for title in strings.VOTE_COLUMNS)
    return (
        f'<details class="votes" open><summary>{strings.VOTES}</summary>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _vote(vote: Vote) -> str:
    name = vote.label or vote.finding.replace("_", " ").capitalize()
    silent = vote.reports - len(vote.present) - len(vote.possible) - len(vote.absent)
    dots = "●" * len(vote.present) + "◐" * len(vote.possible)
    dots += "○" * len(vote.absent) + "·" * max(silent, 0)
    probability = "" if vote.image_probability is None else f"{vote.image_probability:.2f}"
    return (
        f'<tr title="{escape(str(vote))}"><th scope="row">{escape(name)}</th>'
        f'<td class="dots" aria-hidden="true">{dots}</td>'
        f"<td>{len(vote.present)} / {vote.reports}</td><td>{len(vote.absent)}</td>"
        f"<td>{probability}</td></tr>"
    )


def _addenda(report: ReviewedReport) -> str:
    return "".join(
        f'<section class="addendum"><h3>{strings.ADDENDUM}</h3><p>{escape(each.text)}</p>'
        f'<p class="signed">{escape(each.signature.name)}, {moment(each.signature.at)}</p>'
        "</section>"
        for each in report.addenda
    )


def _with_checks(
    report: ReviewedReport, check: DraftCheck | None
) -> list[tuple[Line, SentenceCheck | None]]:
    if check is None:
        return [(line, None) for line in report.lines]
    return list(zip(report.lines, check.sentences, strict=True))


def _clashes(report: ReviewedReport) -> dict[int, list[str]]:
    """For each line that another one contradicts, where that one stands, as F2 or I1."""
    lines = [line for section in Section for line in report.section(section)]
    places = [
        f"{section.value[0].upper()}{number}"
        for section in Section
        for number, _ in enumerate(report.section(section), 1)
    ]
    found: dict[int, list[str]] = {}
    for a, b in contradictions([line.text for line in lines]):
        found.setdefault(lines[a].key, []).append(places[b])
        found.setdefault(lines[b].key, []).append(places[a])
    return found


def _title(section: Section) -> str:
    return section.value.capitalize()


def _progress(prediction: Prediction) -> str:
    if prediction.messages:
        return strings.WRITING
    return strings.WRITING if prediction.hits else strings.SEARCHING
