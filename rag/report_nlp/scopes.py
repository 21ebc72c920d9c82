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


TARGETS = "fdh"
"""Findings, devices, neutral mentions."""

_STATE = {"n": "n", "t": "n", "T": "n", "Z": "n", "M": "M", "u": "u", "F": "u", "G": "u"}
_STATE |= {"l": "l", "?": "l", "B": "l", "U": "l", "v": "l", "H": "H", "Q": "Q", "I": "I", "<": "I"}
"""Role of a cue that looks ahead -> the state it sets: denied (n, or M for devices only), doubted
strongly (u: to the end of the clause) or weakly (l: to the next "and"), history, question,
condition (I: nothing is said of the image until the sentence turns to something else)."""

_VERDICT: dict[str, Polarity | None] = {
    **dict.fromkeys("nM", Polarity.NEGATIVE),
    **dict.fromkeys("ul", Polarity.UNCERTAIN),
    **dict.fromkeys("HQI"),
}
_OR_FOLLOWS = re.compile(r"[,a][.ezgkL,f]*o")
_SIDE_FOLLOWS = re.compile(r"[.P]{0,2}g")
_EITHER = re.compile(
    r"(?:f[.ezgkLp]*(?:,[.ezgkLp]*f[.ezgkLp]*)*,o|f[.ezgkLp]*o)[.ezgkLApSJ]*f"  # a, b, or c; a or b
)
_OR_INNOCENT = re.compile(r"f[.ezgkLp]*,?o[.ezgkL]*4|4[.ezgkLP]*,?o[.ezgkL]*f")
_VERSUS = re.compile(r"f(?:[.ezgkL]*[ao][.ezgkL]*f)?[.ezgkLi]*,?v")
_LOOK_BACK: dict[str, tuple[Polarity | None, str]] = {
    "r": (Polarity.NEGATIVE, "fd"),
    "R": (Polarity.NEGATIVE, "d"),
    "X": (Polarity.NEGATIVE, "fd"),
    "q": (Polarity.UNCERTAIN, "fdh"),
    "O": (Polarity.UNCERTAIN, "fh"),
    "l": (Polarity.UNCERTAIN, "fd"),
    "U": (Polarity.UNCERTAIN, "fd"),
    "%": (Polarity.UNCERTAIN, "h"),
    "=": (Polarity.NEGATIVE, "fdh"),
    ">": (None, "fd"),
}
"""Role of a cue that looks back -> what it says, and of which roles."""
_ADJECTIVES = "ANBJL"
_DIRECT = re.compile(rf"[{_ADJECTIVES}](?=[.ezgkSP]*$)")
_ANY = re.compile(rf"[{_ADJECTIVES}]")
_LISTED = re.compile(rf"[{_ADJECTIVES}](?=[.ezgkSPhfao,]*$)")
_PLACE = re.compile(r"(?<![S_])P[.ezgk]{0,2}$")
_NOT = re.compile(r"t[._zpsW]{0,3}$")


class Scopes:
    """Reads one sentence.

    Attributes:
        verdict: place of a mention -> what was said of it, None for nothing of the image (history,
            or what somebody wants to know); places that no cue reaches are absent.
        scope: at each place, the state that cues on the left have set; empty for none.
    """

    def __init__(self, roles: str, clauses: list[tuple[int, int]]) -> None:
        self.roles = roles
        self.verdict: dict[int, Polarity | None] = {}
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

    def reached(self, *places: int) -> Polarity | None:
        """What cues further left say of something there, at the first of the places they reach."""
        state = next(filter(None, (self.scope[at] for at in places)), "")
        return _VERDICT.get(state, Polarity.POSITIVE)

    def is_place(self, at: int, start: int) -> bool:
        """Whether a mention only says where something is: "density adjacent to the heart"."""
        return _PLACE.search(self.roles[start:at]) is not None

    def is_unclear(self, at: int, clause: tuple[int, int]) -> bool:
        """Whether a mention is hidden or hedged without any adjective: "heart size is obscured"."""
        hedged = self.verdict.get(at) is Polarity.UNCERTAIN or self.scope[at] == "u"
        return hedged or "O" in self.roles[slice(*clause)]

    def adjective(self, at: int, clause: tuple[int, int]) -> int | None:
        """Where an adjective judges a mention: right before it, after it, or before its list."""
        roles, (start, end) = self.roles, clause
        if direct := _DIRECT.search(roles, start, at):
            return direct.start()
        following = _ANY.search(roles, at, end)
        if following and "w" not in roles[at : following.start()]:
            return following.start()
        listed = _LISTED.search(roles, start, at)
        return listed.start() if listed else None

    def judged(self, at: int, adjective: int, start: int) -> Polarity | None:
        """What an adjective says of the neutral mention at ``at``, in a clause from ``start``."""
        role, said = self.roles[adjective], self.reached(adjective, at)
        denied = _NOT.search(self.roles, start, adjective) is not None
        doubted = role in "AJL" and self.verdict.get(at) is Polarity.UNCERTAIN
        if role == "B" or said is Polarity.UNCERTAIN or doubted:
            return Polarity.UNCERTAIN
        if role == "N":
            return Polarity.POSITIVE if denied else Polarity.NEGATIVE
        return Polarity.NEGATIVE if denied and said is not None else said

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
                        self.verdict.setdefault(at, Polarity.UNCERTAIN)

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
                said = verdict
                if role == "=":  # the "line" was a skin fold; "widened" by rotation, as it seems
                    said = {"d": None, "h": Polarity.UNCERTAIN}.get(self.roles[target], verdict)
                elif self.verdict.get(target) is Polarity.NEGATIVE:
                    continue
                self.verdict[target] = said

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
                if self.verdict.get(target) is Polarity.NEGATIVE:
                    self.verdict[target] = Polarity.POSITIVE


def has_target(roles: str) -> bool:
    """Whether a finding, a device or a neutral mention is among ``roles``."""
    return any(target in roles for target in TARGETS)
