"""Is a finding there? Polarity of every finding that a text mentions.

Owns the rules of negation, hedging, resolution and comparison. Does not know labels, topics or
reports; `rag.phrases` says which words play which role.

A sentence becomes a string of roles, one letter a phrase ("no" n, "effusion" f, "or" o, other
words a dot), and every rule is a regular expression over that string:

    There is no focal consolidation, but pneumonia cannot be excluded.
    m        n  .     f             ;b   f         t    .  X

1. Phrases that together mean something else are rewritten (``t.X``, "cannot be excluded", doubts
   what stands before it).
2. The string is cut into clauses.
3. In each clause cues that look ahead ("no", "may represent") are carried from left to right, then
   cues that look back ("has resolved", "is not excluded") are applied.
4. Neutral mentions ("heart size") take their polarity from an adjective.

The idea of cues with scopes is that of NegEx (Chapman 2001) and ConText (Harkema 2009); what counts
as uncertain follows CheXpert's labeller (Irvin 2019) except where docs/grounding.md says otherwise.
"""

import itertools
import re
from dataclasses import dataclass
from enum import StrEnum

from rag.clauses import ROLE_LETTERS, clauses, rewrite
from rag.phrases import Finding, Kind, Match, match
from rag.sentences import sentence_spans
from rag.words import tokens


class Polarity(StrEnum):
    """What a text says of a finding that it mentions."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Mention:
    """A finding mentioned at ``text[start:end]``.

    Attributes:
        clause: offsets of the clause it stands in.
        polarity: None where the text names the finding without saying anything of the film: in
            the indication, in the patient's history, or as a neutral "heart size".
    """

    finding: Finding
    start: int
    end: int
    polarity: Polarity | None
    clause: tuple[int, int]


_LINE = re.compile(r"\n(?=\s*[A-Z])")


def mentions(text: str) -> list[Mention]:
    """Every finding that ``text`` mentions, in reading order.

    A line that begins with a capital begins a sentence: whole reports put a heading or an item on
    each line and often no full stop.
    """
    lines = [0, *(found.end() for found in _LINE.finditer(text)), len(text)]
    return [
        mention
        for first, last in itertools.pairwise(lines)
        for start, end in sentence_spans(text[first:last])
        for mention in sentence_mentions(text, first + start, first + end)
    ]


def sentence_mentions(text: str, start: int = 0, end: int | None = None) -> list[Mention]:
    """The findings of one sentence, ``text[start:end]``."""
    words = tokens(text, start, end)
    matches = match(words)
    if not any(found.findings for found in matches):
        return []
    reading = _Reading(matches)
    reading.read()
    found = []
    for first, last in reading.clauses:
        clause = (words[matches[first].first].start, words[matches[last - 1].last - 1].end)
        for i in range(first, last):
            span = (words[matches[i].first].start, words[matches[i].last - 1].end)
            found += [
                Mention(finding, *span, reading.polarity(i, finding), clause)
                for finding in matches[i].findings
                if finding.kind is not Kind.IGNORE
            ]
    return found


_KIND_LETTERS = {Kind.FINDING: "f", Kind.NEUTRAL: "h", Kind.DEVICE: "d", Kind.IGNORE: "."}
_TARGETS = "fdh"
_AFFIRMED, _DENIED, _DOUBTED, _UNSAID = "+-?0"
_POLARITY = {
    _AFFIRMED: Polarity.POSITIVE,
    _DENIED: Polarity.NEGATIVE,
    _DOUBTED: Polarity.UNCERTAIN,
    _UNSAID: None,
}


class _Reading:
    """The roles of one sentence and, as they are found, the verdicts on its findings."""

    def __init__(self, matches: list[Match]) -> None:
        self.matches = matches
        self.roles = rewrite("".join(_letter(found) for found in matches))
        self.clauses = clauses(self.roles)
        self.verdict: dict[int, str] = {}
        self.scope: list[str] = [""] * len(self.roles)

    def polarity(self, at: int, finding: Finding) -> Polarity | None:
        verdict = self.verdict.get(at, "")
        if not verdict:
            if finding.kind is Kind.NEUTRAL and not finding.default:
                return None
            return Polarity(finding.default or "positive")
        if verdict == _AFFIRMED and finding.default and finding.kind is Kind.FINDING:
            return Polarity(finding.default)
        return _POLARITY[verdict]

    def read(self) -> None:
        for start, end in self.clauses:
            self._look_ahead(start, end)
        for start, end in self.clauses:
            self._alternatives(start, end)
            self._look_back(start, end)
        for start, end in self.clauses:
            self._judge_neutrals(start, end)

    def _look_ahead(self, start: int, end: int) -> None:
        """Carry negation, doubt, history and questions rightwards until something stops them."""
        state, since, suspended = "", -1, False
        for at in range(start, end):
            role = self.roles[at]
            new = _AHEAD.get(role)
            if new == "n" and state in ("u", "l") and not _has_target(self.roles[since:at]):
                new = None  # "probably no effusion" stays doubtful
            elif new in ("u", "l") and state == "n" and not _has_target(self.roles[since:at]):
                new = None  # "nothing suspicious for pneumonia" stays denied
            if new:
                state, since, suspended = new, at, False
            elif (
                role in "wy;b"
                or (state == "l" and role in ",a" and not _OR_LIST.match(self.roles, at, end))
                or (state in ("H", "Q") and role in "im")
                or (state == "H" and role == ",")
                or (state == "n" and role in ",a" and _PRESENT.match(self.roles, at + 1, end))
            ):
                state = ""
            elif role == "P" and state == "n":
                suspended = True  # "no cavity within the mass": the mass is there
            elif role in ",ao":
                suspended = False
            self.scope[at] = "" if suspended else state
            if role in "fd" and self.scope[at]:
                if state == "M" and role != "d":
                    continue
                self.verdict[at] = _VERDICT[state]

    def _alternatives(self, start: int, end: int) -> None:
        """Doubt both of "atelectasis or pneumonia" and of "atelectasis versus pneumonia"."""
        for pattern in (_EITHER, _VERSUS):
            for found in pattern.finditer(self.roles, start, end):
                for at in range(*found.span()):
                    if self.roles[at] == "f" and self.verdict.get(at, "") == "":
                        self.verdict[at] = _DOUBTED

    def _look_back(self, start: int, end: int) -> None:
        for at in range(start, end):
            role = self.roles[at]
            if role not in "rRqOlX" or (role == "l" and _has_target(self.roles[at + 1 : end])):
                continue
            if role == "l" and not self.scope[at]:
                continue
            kinds = {"R": "d", "O": "fh"}.get(role, "fd")
            found = self._before(at, kinds) or (role in "rq" and self._after(at, end, kinds)) or []
            for target in found:
                old = self.verdict.get(target, "")
                if role in "rRX":
                    self.verdict[target] = _DENIED
                elif old != _DENIED:
                    self.verdict[target] = _DOUBTED

    def _before(self, at: int, kinds: str) -> list[int]:
        """Targets left of a predicate that it is said of, back to where another clause begins."""
        found: list[int] = []
        for i in range(at - 1, -1, -1):
            role = self.roles[i]
            if role in kinds:
                found.append(i)
            elif role == ";" or (found and role in "ibwyu") or role in "ntZ":
                break
        return found

    def _after(self, at: int, end: int, kinds: str) -> list[int]:
        return [i for i in range(at, end) if self.roles[i] in kinds and i not in self.verdict]

    def _judge_neutrals(self, start: int, end: int) -> None:
        for at in range(start, end):
            if self.roles[at] == "h":
                verdict = self._judge(at, start, end)
                if verdict:
                    self.verdict[at] = verdict

    def _judge(self, at: int, start: int, end: int) -> str:
        """Verdict on the neutral mention at ``at``, empty where nothing is said of it."""
        finding = self.matches[at].findings[0]
        if not finding.label and self.roles[at + 1 : at + 2] in ("f", "d"):
            return ""  # "large lung nodule": the adjective is the nodule's
        judge = _adjective(self.roles, at, start, end)
        if judge is not None:
            return self._judged_by(judge, at, start)
        if finding.default:
            return _VERDICT.get(self.scope[at], "")
        unclear = self.verdict.get(at) == _DOUBTED or re.search("[SOj]", self.roles[start:end])
        return _DOUBTED if finding.label and unclear else ""

    def _judged_by(self, judge: int, at: int, start: int) -> str:
        role, scope = self.roles[judge], self.scope[judge] or self.scope[at]
        denied = bool(re.search(r"t[._zpsW]{0,3}$", self.roles[start:judge]))
        if role == "B" or scope in ("u", "l"):
            return _DOUBTED
        if role == "N":
            return _AFFIRMED if denied else _DENIED
        if scope == "H":
            return _UNSAID
        return _DENIED if denied or scope == "n" else _AFFIRMED


def _letter(found: Match) -> str:
    if found.findings:
        return _KIND_LETTERS[found.findings[0].kind]
    return ROLE_LETTERS.get(found.roles[0], ".") if found.roles else "."


def _has_target(roles: str) -> bool:
    return any(target in roles for target in _TARGETS)


# Cues that look ahead -> the state they set.
_AHEAD = {
    "n": "n",
    "t": "n",
    "T": "n",
    "Z": "n",
    "M": "M",
    "u": "u",
    "I": "u",
    "l": "l",
    "v": "l",
    "H": "H",
    "Q": "Q",
}
_VERDICT = {"n": _DENIED, "M": _DENIED, "u": _DOUBTED, "l": _DOUBTED, "H": _UNSAID, "Q": _UNSAID}
_OR_LIST = re.compile(r"[,a][.ezgkL,f]*o")
_PRESENT = re.compile(r"[a,]?[.]?[ezkSLAm]")
_EITHER = re.compile(r"f[.ezgkL]*(?:,[.ezgkL]*f[.ezgkL]*)*,?o[.ezgkLA]*f")
_VERSUS = re.compile(r"f(?:[.ezgkL]*[ao][.ezgkL]*f)?[.ezgkLi]*,?v")


def _adjective(roles: str, at: int, start: int, end: int) -> int | None:
    """Where the adjective stands that judges the neutral mention at ``at``."""
    direct = re.search(r"[ANBJL](?=[.ezgkSP]*$)", roles[start:at])
    if direct:
        return start + direct.start()
    following = re.search(r"[ANBJL]", roles[at:end])
    if following and "w" not in roles[at : at + following.start()]:
        return at + following.start()
    listed = re.search(r"[ANBJL](?=[.ezgkSPhfao,]*$)", roles[start:at])
    return start + listed.start() if listed else None
