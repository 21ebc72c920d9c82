"""How far the cues of a sentence reach, and what they say of the findings they reach.

Works on the role string that `rag.report_nlp.labeller` explains, after `rag.report_nlp.clauses`
has rewritten it and cut it into clauses. A mention of what is always there ("heart size is normal",
"lungs are clear") says nothing by itself: an adjective of its clause judges it, and a negation
turns the adjective round.
"""

import re
from enum import StrEnum


class Polarity(StrEnum):
    """What a text says of a finding that it mentions."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    UNCERTAIN = "uncertain"


class Assertion(StrEnum):
    """What the cues of a sentence say of one mention."""

    AFFIRMED = "affirmed"
    DENIED = "denied"
    DOUBTED = "doubted"
    UNSAID = "unsaid"
    """History, or what somebody wants to know: nothing is said of the image."""


TARGETS = "fdh"
"""Findings, devices, neutral mentions."""

_STATE = {"n": "n", "t": "n", "T": "n", "Z": "n", "M": "M", "u": "u", "F": "u", "G": "u"}
_STATE |= {"l": "l", "?": "l", "B": "l", "U": "l", "v": "l", "H": "H", "Q": "Q", "I": "I", "<": "I"}
"""Role of a cue that looks ahead -> the state it sets: denied (n, or M for devices only), doubted
strongly (u: to the end of the clause) or weakly (l: to the next "and"), history, question,
condition (I: nothing is said of the image until the sentence turns to something else)."""

_VERDICT = {
    "n": Assertion.DENIED,
    "M": Assertion.DENIED,
    "u": Assertion.DOUBTED,
    "l": Assertion.DOUBTED,
    "H": Assertion.UNSAID,
    "Q": Assertion.UNSAID,
    "I": Assertion.UNSAID,
}
_OR_FOLLOWS = re.compile(r"[,a][.ezgkL,f]*o")
_SIDE_FOLLOWS = re.compile(r"[.P]{0,2}g")
_EITHER = re.compile(
    r"(?:f[.ezgkLp]*(?:,[.ezgkLp]*f[.ezgkLp]*)*,o|f[.ezgkLp]*o)[.ezgkLApSJ]*f"  # a, b, or c; a or b
)
_OR_INNOCENT = re.compile(r"f[.ezgkLp]*,?o[.ezgkL]*4|4[.ezgkLP]*,?o[.ezgkL]*f")
_VERSUS = re.compile(r"f(?:[.ezgkL]*[ao][.ezgkL]*f)?[.ezgkLi]*,?v")
_LOOK_BACK = {
    "r": (Assertion.DENIED, "fd"),
    "R": (Assertion.DENIED, "d"),
    "X": (Assertion.DENIED, "fd"),
    "q": (Assertion.DOUBTED, "fdh"),
    "O": (Assertion.DOUBTED, "fh"),
    "l": (Assertion.DOUBTED, "fd"),
    "U": (Assertion.DOUBTED, "fd"),
    "%": (Assertion.DOUBTED, "h"),
    "=": (Assertion.DENIED, "fdh"),
    ">": (Assertion.UNSAID, "fd"),
}
"""Role of a cue that looks back -> what it says, and of which roles."""


class Scopes:
    """Reads one sentence.

    Attributes:
        verdict: place of a mention -> what was said of it; places that no cue reaches are absent.
        scope: at each place, the state that cues on the left have set; empty for none.
    """

    def __init__(self, roles: str, clauses: list[tuple[int, int]]) -> None:
        self.roles = roles
        self.verdict: dict[int, Assertion] = {}
        self.scope = [""] * len(roles)
        condition = False
        for start, end in clauses:
            condition = condition and self._is_advice(start, end)
            self._look_ahead(start, end, state="I" if condition else "")
            condition = self.scope[end - 1] == "I"
        for start, end in clauses:
            self._alternatives(start, end)
            self._look_back(start, end)
            self._remains(start, end)

    def reached(self, at: int) -> Assertion | None:
        """What the cues left of ``at`` say of something that stands there."""
        return _VERDICT.get(self.scope[at])

    def _is_advice(self, start: int, end: int) -> bool:
        """Whether a clause goes on with a condition: "if pain persists, films for a fracture"."""
        clause = self.roles[start:end]
        return (
            clause[0] not in ";b"
            and "m" not in clause
            and ("C" in clause or not set("iuGnt") & set(clause))
        )

    def _look_ahead(self, start: int, end: int, *, state: str = "") -> None:
        since, suspended = start, False
        for at in range(start, end):
            role = self.roles[at]
            reached = has_target(self.roles[since:at])
            new = self._next_state(state, role, reached=reached)
            if new:
                state, since, suspended = new, at, False
            elif self._stops(state, at, end, reached=reached):
                state = ""
            elif role == "P" and state == "n" and self.roles[since + 1 : at].strip("gon"):
                suspended = True  # "no cavity within the mass": the mass is there
            elif role in ",ao":
                suspended = False
            self.scope[at] = "" if suspended else state
            if role in ("d" if state == "M" else "fd") and self.scope[at]:
                self.verdict[at] = _VERDICT[state]

    def _next_state(self, state: str, role: str, *, reached: bool) -> str | None:
        if state == "I":
            return None
        new = _STATE.get(role)
        if new == "n" and state in ("u", "l") and not reached:
            return None  # "probably no effusion" stays doubtful
        if state == "n" and (role in "GUv" or (new in ("u", "l") and not reached)):
            return None  # "no opacity suspicious for pneumonia" stays denied
        return new

    def _stops(self, state: str, at: int, end: int, *, reached: bool) -> bool:
        role = self.roles[at]
        if state == "I":
            return role in ";b" or (role == "m" and reached)
        if role in "wy2;b":
            return True
        if state == "l":
            listed = _OR_FOLLOWS.match(self.roles, at, end)
            return role in ",a" and reached and not listed
        return (state == "H" and role in ",im") or (state == "Q" and role in "im")

    def _alternatives(self, start: int, end: int) -> None:
        """Doubt both of "atelectasis or pneumonia" and of "atelectasis versus pneumonia"."""
        for pattern in (_EITHER, _VERSUS, _OR_INNOCENT):
            for found in pattern.finditer(self.roles, start, end):
                for at in range(*found.span()):
                    if self.roles[at] == "f":
                        self.verdict.setdefault(at, Assertion.DOUBTED)

    def _look_back(self, start: int, end: int) -> None:
        for at in range(start, end):
            role = self.roles[at]
            if role not in _LOOK_BACK or self.scope[at] == "I":
                continue
            if role in "lU" and (not self.scope[at] or has_target(self.roles[at + 1 : end])):
                continue  # an adjective: it looks ahead
            verdict, kinds = _LOOK_BACK[role]
            found = self._before(at, kinds, start)
            if found and found[-1] < start and self._is_other_side(start, at):
                continue  # "effusion on the right, none on the left"
            if not found and role in "rq":
                found = [i for i in range(at, end) if self.roles[i] in kinds]
                found = [i for i in found if i not in self.verdict]
            for target in found:
                if role == "=" and self.roles[target] == "d":
                    self.verdict[target] = Assertion.UNSAID  # the "line" was a skin fold
                elif role == "=" and self.roles[target] == "h":
                    self.verdict[target] = Assertion.DOUBTED  # "widened" by rotation, as it seems
                elif (
                    verdict is Assertion.DENIED or self.verdict.get(target) is not Assertion.DENIED
                ):
                    self.verdict[target] = verdict

    def _is_other_side(self, start: int, at: int) -> bool:
        """Whether the clause has no target but a side, and so had what stands before it."""
        sided = "g" in self.roles[start:at] and "g" in re.split("[;b]", self.roles[:start])[-1]
        return sided or _SIDE_FOLLOWS.match(self.roles, at + 1) is not None

    def _before(self, at: int, kinds: str, start: int) -> list[int]:
        """Targets left of a predicate that it is said of, back to where another clause begins."""
        found: list[int] = []
        for i in range(at - 1, -1, -1):
            role = self.roles[i]
            if found and (i < start or role in "ibwy2u"):
                break
            if role in kinds:
                found.append(i)
            elif role in ";ntZ":
                break
        return found

    def _remains(self, start: int, end: int) -> None:
        """Take back a denial: "has resolved on the right but persists on the left"."""
        clause = self.roles[start:end]
        if re.match("b[.i]?(?:k|[sz][.P]{0,2}g)", clause) and not has_target(clause):
            for target in self._before(start, "f", start):
                if self.verdict.get(target) is Assertion.DENIED:
                    self.verdict[target] = Assertion.AFFIRMED


def has_target(roles: str) -> bool:
    """Whether a finding, a device or a neutral mention is among ``roles``."""
    return any(target in roles for target in TARGETS)


_ADJECTIVES = "ANBJL"
_DIRECT = re.compile(rf"[{_ADJECTIVES}](?=[.ezgkSP]*$)")
_ANY = re.compile(rf"[{_ADJECTIVES}]")
_LISTED = re.compile(rf"[{_ADJECTIVES}](?=[.ezgkSPhfao,]*$)")
_PLACE = re.compile(r"(?<![S_])P[.ezgk]{0,2}$")
_NOT = re.compile(r"t[._zpsW]{0,3}$")


def judge(scopes: Scopes, at: int, clause: tuple[int, int]) -> Assertion | None:
    """What is said on the neutral mention at ``at``; None where no adjective judges it."""
    roles, (start, end) = scopes.roles, clause
    if is_place(scopes, at, clause):
        return None
    found = _adjective(roles, at, start, end)
    if found is None:
        return None
    role, said = roles[found], scopes.reached(found) or scopes.reached(at)
    denied = bool(_NOT.search(roles[start:found]))
    doubted = role in "AJL" and scopes.verdict.get(at) is Assertion.DOUBTED
    if role == "B" or said is Assertion.DOUBTED or doubted:
        return Assertion.DOUBTED
    if role == "N":
        return Assertion.AFFIRMED if denied else Assertion.DENIED
    if said is Assertion.UNSAID:
        return said
    return Assertion.DENIED if denied or said is Assertion.DENIED else Assertion.AFFIRMED


def is_place(scopes: Scopes, at: int, clause: tuple[int, int]) -> bool:
    """Whether the mention only says where something else is ("density adjacent to the heart")."""
    return _PLACE.search(scopes.roles[clause[0] : at]) is not None


def is_unclear(scopes: Scopes, at: int, clause: tuple[int, int]) -> bool:
    """Whether the mention is hidden or hedged without any adjective ("heart size is obscured")."""
    hedged = scopes.verdict.get(at) is Assertion.DOUBTED or scopes.scope[at] == "u"
    return hedged or "O" in scopes.roles[slice(*clause)]


def is_unchanged(scopes: Scopes, clause: tuple[int, int]) -> bool:
    """Whether a clause says that something has or has not changed, and no more."""
    return re.search("[Sj]", scopes.roles[slice(*clause)]) is not None


def _adjective(roles: str, at: int, start: int, end: int) -> int | None:
    """Where the adjective stands: right before the noun, after it, or before a list it is in."""
    direct = _DIRECT.search(roles[start:at])
    if direct:
        return start + direct.start()
    following = _ANY.search(roles[at:end])
    if following and "w" not in roles[at : at + following.start()]:
        return at + following.start()
    listed = _LISTED.search(roles[start:at])
    return start + listed.start() if listed else None
