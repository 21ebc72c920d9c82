"""A draft in the hands of its reader: decided sentence by sentence, signed, then only added to.

Owns the states (draft, edited, signed, addendum) and what may be done in each. Every step gives a
new `ReviewedReport`; nothing is changed in place. Knows no page, no file and no store.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from rag.errors import CxrRagError
from rag.schema import Draft, DraftSentence, Section

LONGEST_SENTENCE = 2000
"""Characters; a whole report pasted into one sentence is refused."""


class ReviewError(CxrRagError):
    """A step that a report in this state does not allow."""


class State(StrEnum):
    """How far a report has come; the first three in this order, addenda any number of times."""

    DRAFT = "draft"
    EDITED = "edited"
    SIGNED = "signed"
    ADDENDUM = "signed with addendum"


class Decision(StrEnum):
    """What the reader made of a sentence."""

    OPEN = "open"
    ACCEPTED = "accepted"
    EDITED = "edited"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One sentence of the report.

    Attributes:
        key: its number for life, whatever is added or removed around it.
        text: as it stands now.
        sources: reports it rests on; none for what the reader wrote.
        drafted: as the model drafted it, empty where the reader added it.
    """

    key: int
    section: Section
    text: str
    sources: tuple[str, ...] = ()
    decision: Decision = Decision.OPEN
    drafted: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who answers for a text, and since when (ISO 8601 with its offset)."""

    name: str
    at: str


@dataclass(frozen=True, slots=True)
class Addendum:
    """What was added to a signed report."""

    text: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class ReviewedReport:
    """The report as it stands.

    Attributes:
        lines: in reading order, findings first.
        drafted: how many sentences the model drafted; to know whether one was removed.
        next_key: of the next line.
    """

    lines: tuple[ReportLine, ...] = ()
    drafted: int = 0
    next_key: int = 0
    signature: Signature | None = None
    addenda: tuple[Addendum, ...] = ()

    @classmethod
    def from_draft(cls, draft: Draft) -> "ReviewedReport":
        """A draft that nobody has decided on."""
        sentences = [(section, item) for section in Section for item in draft.section(section)]
        lines = tuple(
            ReportLine(key, section, item.text, item.sources, drafted=item.text)
            for key, (section, item) in enumerate(sentences)
        )
        return cls(lines, drafted=len(lines), next_key=len(lines))

    @property
    def state(self) -> State:
        """How far it has come."""
        if self.signature:
            return State.ADDENDUM if self.addenda else State.SIGNED
        untouched = all(line.decision is Decision.OPEN for line in self.lines)
        return State.DRAFT if untouched and len(self.lines) == self.drafted else State.EDITED

    @property
    def open_lines(self) -> tuple[ReportLine, ...]:
        """Sentences that wait for a decision."""
        return tuple(line for line in self.lines if line.decision is Decision.OPEN)

    def section(self, section: Section) -> tuple[ReportLine, ...]:
        """Lines of one section."""
        return tuple(line for line in self.lines if line.section is section)

    def as_draft(self) -> Draft:
        """Its sentences as a draft: what `rag.grounding.check_draft` reads."""

        def sentences(section: Section) -> tuple[DraftSentence, ...]:
            return tuple(DraftSentence(line.text, line.sources) for line in self.section(section))

        return Draft(sentences(Section.FINDINGS), sentences(Section.IMPRESSION))

    def line(self, key: int) -> ReportLine:
        """A line by its key.

        Raises:
            ReviewError: there is none; somebody else may have removed it.
        """
        found = next((line for line in self.lines if line.key == key), None)
        if found is None:
            raise ReviewError(
                f"there is no sentence {key} in this report; it may have been removed"
            )
        return found

    def accept(self, keys: Iterable[int]) -> "ReviewedReport":
        """These sentences stand as they are."""
        self._must_be_open()
        wanted = {self.line(key).key for key in keys}

        def decided(line: ReportLine) -> ReportLine:
            is_wanted = line.key in wanted and line.decision is Decision.OPEN
            return replace(line, decision=Decision.ACCEPTED) if is_wanted else line

        return replace(self, lines=tuple(map(decided, self.lines)))

    def edit(self, key: int, text: str, *, sources: tuple[str, ...] = ()) -> "ReviewedReport":
        """The reader's own words for a sentence; the same words are an acceptance."""
        self._must_be_open()
        line, text = self.line(key), _usable(text)
        if text == line.drafted or (text == line.text and line.decision is not Decision.OPEN):
            decision = Decision.ACCEPTED if line.drafted == text else line.decision
        else:
            decision = Decision.EDITED if line.drafted else Decision.ADDED
        new = replace(line, text=text, sources=sources, decision=decision)
        return replace(self, lines=tuple(new if old.key == key else old for old in self.lines))

    def remove(self, key: int) -> "ReviewedReport":
        """Without this sentence."""
        self._must_be_open()
        gone = self.line(key)
        return replace(self, lines=tuple(line for line in self.lines if line is not gone))

    def add(
        self, section: Section, text: str, *, sources: tuple[str, ...] = ()
    ) -> "ReviewedReport":
        """A sentence of the reader's at the end of a section."""
        self._must_be_open()
        new = ReportLine(self.next_key, section, _usable(text), sources, Decision.ADDED)
        lines = tuple(
            line
            for each in Section
            for line in (*self.section(each), *((new,) if each is section else ()))
        )
        return replace(self, lines=lines, next_key=self.next_key + 1)

    def sign(self, signature: Signature) -> "ReviewedReport":
        """Lock the text under a name.

        Raises:
            ReviewError: no name, nothing to sign, or a sentence that nobody decided on.
        """
        self._must_be_open()
        if not signature.name.strip():
            raise ReviewError("a signature needs a name: type yours")
        if not self.lines:
            raise ReviewError("there is nothing to sign: the report has no sentence")
        if self.open_lines:
            raise ReviewError(
                f"{len(self.open_lines)} sentences are not decided: accept, edit or remove each "
                "of them before you sign"
            )
        return replace(self, signature=signature)

    def add_addendum(self, text: str, signature: Signature) -> "ReviewedReport":
        """Add to a signed report.

        Raises:
            ReviewError: it is not signed yet, or there is no text or no name.
        """
        if self.signature is None:
            raise ReviewError("the report is not signed yet: edit it instead of adding to it")
        if not signature.name.strip():
            raise ReviewError("an addendum needs a name: type yours")
        return replace(self, addenda=(*self.addenda, Addendum(_usable(text), signature)))

    def _must_be_open(self) -> None:
        if self.signature is not None:
            raise ReviewError(
                f"the report was signed by {self.signature.name} and is locked: write an addendum"
            )


@dataclass(frozen=True, slots=True)
class LineChange:
    """What one step did to one sentence."""

    what: str
    """"accepted", "edited", "added", "removed" or "reopened"."""
    line: int
    section: Section
    before: str = ""
    after: str = ""


def line_changes(before: ReviewedReport, after: ReviewedReport) -> Iterator[LineChange]:
    """How two states of a report differ, sentence by sentence."""
    old = {line.key: line for line in before.lines}
    new = {line.key: line for line in after.lines}
    for key, line in old.items():
        if key not in new:
            yield LineChange("removed", key, line.section, before=line.text)
    for key, line in new.items():
        was = old.get(key)
        if was is None:
            yield LineChange("added", key, line.section, after=line.text)
        elif was != line:
            reopened = line.decision is Decision.OPEN and was.decision is not Decision.OPEN
            what = "reopened" if reopened else line.decision.value
            what = "edited" if was.text != line.text and not reopened else what
            yield LineChange(what, key, line.section, before=was.text, after=line.text)


def _usable(text: str) -> str:
    """Text in one line; nothing, or far too much, is refused."""
    text = " ".join(text.split())
    if not text:
        raise ReviewError("a sentence needs words; to take it out, remove it")
    if len(text) > LONGEST_SENTENCE:
        raise ReviewError(
            f"{len(text)} characters are more than the {LONGEST_SENTENCE} of one sentence; "
            "add them as several"
        )
    return text
