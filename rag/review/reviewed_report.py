"""A draft under review: edited sentence by sentence, signed, then extended only by addenda.

Owns the states of a report and what each allows. Reports are immutable: every step returns a new
one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from rag.errors import CxrRagError
from rag.schema import Draft, DraftSentence, Section

_MAX_SENTENCE_CHARS = 2000
"""A whole report pasted into one sentence is refused."""


class ReviewError(CxrRagError):
    """The report does not allow this step."""


class State(StrEnum):
    """How far the review of a report has come."""

    DRAFT = "draft"
    EDITED = "edited"
    SIGNED = "signed"
    ADDENDUM = "signed with addendum"


class Decision(StrEnum):
    """The reader's decision about a sentence."""

    OPEN = "open"
    ACCEPTED = "accepted"
    EDITED = "edited"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One sentence of the report.

    Attributes:
        key: identifies the sentence in this report, whatever is added or removed.
        sources: ids of the reports it cites; none for the reader's own words.
        drafted: the drafted text; empty if the reader added the sentence.
    """

    key: int
    section: Section
    text: str
    sources: tuple[str, ...] = ()
    decision: Decision = Decision.OPEN
    drafted: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed, and when (ISO 8601 with UTC offset)."""

    name: str
    at: str

    def __str__(self) -> str:
        return f"{self.name}, {self.at}"


@dataclass(frozen=True, slots=True)
class Addendum:
    """Text added to a signed report."""

    text: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class ReviewedReport:
    """A report in some state of review.

    Attributes:
        lines: in reading order, findings first.
        drafted: number of drafted sentences, by which a removal is noticed.
        next_key: for the next added line.
    """

    lines: tuple[ReportLine, ...] = ()
    drafted: int = 0
    next_key: int = 0
    signature: Signature | None = None
    addenda: tuple[Addendum, ...] = ()

    @classmethod
    def from_draft(cls, draft: Draft) -> "ReviewedReport":
        """The report of a draft that nobody has reviewed."""
        sentences = [(section, item) for section in Section for item in draft.section(section)]
        lines = tuple(
            ReportLine(key, section, item.text, item.sources, drafted=item.text)
            for key, (section, item) in enumerate(sentences)
        )
        return cls(lines, drafted=len(lines), next_key=len(lines))

    @property
    def state(self) -> State:
        """State, derived from signature, addenda and lines."""
        if self.signature:
            return State.ADDENDUM if self.addenda else State.SIGNED
        is_untouched = self.open_lines == self.lines and len(self.lines) == self.drafted
        return State.DRAFT if is_untouched else State.EDITED

    @property
    def open_lines(self) -> tuple[ReportLine, ...]:
        """Lines without a decision."""
        return tuple(line for line in self.lines if line.decision is Decision.OPEN)

    def section(self, section: Section) -> tuple[ReportLine, ...]:
        """Lines of one section."""
        return tuple(line for line in self.lines if line.section is section)

    def as_draft(self) -> Draft:
        """The sentences as a draft, for `rag.grounding.check_draft`."""

        def sentences(section: Section) -> tuple[DraftSentence, ...]:
            return tuple(DraftSentence(line.text, line.sources) for line in self.section(section))

        return Draft(sentences(Section.FINDINGS), sentences(Section.IMPRESSION))

    def line(self, key: int) -> ReportLine:
        """A line by its key.

        Raises:
            ReviewError: there is none.
        """
        found = next((line for line in self.lines if line.key == key), None)
        if found is None:
            raise ReviewError(
                f"there is no sentence {key} in this report; it may have been removed"
            )
        return found

    def accept(self, keys: Iterable[int]) -> "ReviewedReport":
        """Accept open sentences; others keep their decision."""
        self._require_unsigned()
        accepted = {self.line(key) for key in keys} & set(self.open_lines)
        lines = tuple(
            replace(line, decision=Decision.ACCEPTED) if line in accepted else line
            for line in self.lines
        )
        return replace(self, lines=lines)

    def edit(self, key: int, text: str, *, sources: tuple[str, ...] = ()) -> "ReviewedReport":
        """Replace a sentence's text; with the drafted text this accepts it."""
        self._require_unsigned()
        line, text = self.line(key), _clean_sentence(text)
        if text == line.drafted or (text == line.text and line.decision is not Decision.OPEN):
            decision = Decision.ACCEPTED if line.drafted == text else line.decision
        else:
            decision = Decision.EDITED if line.drafted else Decision.ADDED
        new = replace(line, text=text, sources=sources, decision=decision)
        return replace(self, lines=tuple(new if old.key == key else old for old in self.lines))

    def remove(self, key: int) -> "ReviewedReport":
        """Remove a sentence."""
        self._require_unsigned()
        removed = self.line(key)
        return replace(self, lines=tuple(line for line in self.lines if line is not removed))

    def add(
        self, section: Section, text: str, *, sources: tuple[str, ...] = ()
    ) -> "ReviewedReport":
        """Add the reader's own sentence at the end of a section."""
        self._require_unsigned()
        new = ReportLine(self.next_key, section, _clean_sentence(text), sources, Decision.ADDED)
        lines = [line for one in Section for line in (*self.lines, new) if line.section is one]
        return replace(self, lines=tuple(lines), next_key=self.next_key + 1)

    def sign(self, signature: Signature) -> "ReviewedReport":
        """Sign and lock the text.

        Raises:
            ReviewError: there is no name, no sentence, or a sentence without a decision.
        """
        self._require_unsigned()
        if not signature.name.strip():
            raise ReviewError("a signature needs a name: type yours")
        if not self.lines:
            raise ReviewError("there is nothing to sign: the report has no sentence")
        if self.open_lines:
            raise ReviewError(
                f"{len(self.open_lines)} sentences have no decision: accept, edit or remove each "
                "of them before you sign"
            )
        return replace(self, signature=signature)

    def add_addendum(self, text: str, signature: Signature) -> "ReviewedReport":
        """Add an addendum to a signed report.

        Raises:
            ReviewError: it is not signed yet, or there is no text or no name.
        """
        if self.signature is None:
            raise ReviewError("the report is not signed yet: edit it instead of adding to it")
        if not signature.name.strip():
            raise ReviewError("an addendum needs a name: type yours")
        return replace(self, addenda=(*self.addenda, Addendum(_clean_sentence(text), signature)))

    def _require_unsigned(self) -> None:
        if self.signature is not None:
            raise ReviewError(
                f"the report was signed by {self.signature.name} and is locked: write an addendum"
            )


@dataclass(frozen=True, slots=True)
class LineChange:
    """Change of one sentence; recorded in the audit record."""

    what: str
    """"accepted", "edited", "added", "removed" or "reopened"."""
    line: int
    section: Section
    before: str = ""
    after: str = ""


def line_changes(before: ReviewedReport, after: ReviewedReport) -> Iterator[LineChange]:
    """Differences between two states of a report, by sentence."""
    old_lines = {line.key: line for line in before.lines}
    new_lines = {line.key: line for line in after.lines}
    for key, line in old_lines.items():
        if key not in new_lines:
            yield LineChange("removed", key, line.section, before=line.text)
    for key, new in new_lines.items():
        old = old_lines.get(key)
        if old is None:
            yield LineChange("added", key, new.section, after=new.text)
        elif old != new:
            if new.decision is Decision.OPEN and old.decision is not Decision.OPEN:
                what = "reopened"
            else:
                what = "edited" if old.text != new.text else new.decision.value
            yield LineChange(what, key, new.section, before=old.text, after=new.text)


def _clean_sentence(text: str) -> str:
    """Text on one line.

    Raises:
        ReviewError: it is empty or too long.
    """
    text = " ".join(text.split())
    if not text:
        raise ReviewError("a sentence needs words; to take it out, remove it")
    if len(text) > _MAX_SENTENCE_CHARS:
        raise ReviewError(
            f"{len(text)} characters are more than the {_MAX_SENTENCE_CHARS} of one sentence; "
            "add them as several"
        )
    return text
