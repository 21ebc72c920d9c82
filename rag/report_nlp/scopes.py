"""How far the cues of a sentence reach, and the polarity they give to findings in their scope.

Works on the role string that `rag.report_nlp.labeller` explains, after `rag.report_nlp.clauses` has
rewritten and split it. A neutral mention ("heart size is normal", "lungs are clear") has no
polarity itself: an adjective of its clause gives it one, and a negation inverts the adjective.
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
"""Role of a forward cue -> the state it sets: negated (n, or M for devices only), hedged strongly
(u: to the end of the clause) or weakly (l: to the next "and"), history (H), question (Q), condition
(I: nothing is said of the image until the sentence turns to something else)."""

_STATE_POLARITY: dict[str, Polarity | None] = {
    **dict.fromkeys("nM", Polarity.NEGATIVE),
    **dict.fromkeys("ul", Polarity.UNCERTAIN),
    **dict.fromkeys("HQI"),
}
_OR_FOLLOWS = re.compile(r"[,a][.ezgkL,f]*o")
_SIDE_FOLLOWS = re.compile(r"[.P]{0,2}g")
_EITHER_OR = re.compile(
    r"(?:f[.ezgkLp]*(?:,[.ezgkLp]*f[.ezgkLp]*)*,o|f[.ezgkLp]*o)[.ezgkLApSJ]*f"  # a, b, or c; a or b
)
_OR_INNOCENT = re.compile(r"f[.ezgkLp]*,?o[.ezgkL]*4|4[.ezgkLP]*,?o[.ezgkL]*f")
_VERSUS = re.compile(r"f(?:[.ezgkL]*[ao][.ezgkL]*f)?[.ezgkLi]*,?v")
_BACKWARD_CUES: dict[str, tuple[Polarity | None, str]] = {
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
"""Role of a backward cue -> the polarity it gives, and to which roles."""
_ADJECTIVES = "ANBJL"
_ADJECTIVE = re.compile(rf"[{_ADJECTIVES}]")
_ADJECTIVE_BEFORE = re.compile(rf"[{_ADJECTIVES}](?=[.ezgkSP]*$)")
_ADJECTIVE_BEFORE_LIST = re.compile(rf"[{_ADJECTIVES}](?=[.ezgkSPhfao,]*$)")
_PLACE = re.compile(r"(?<![S_])P[.ezgk]{0,2}$")
_NOT = re.compile(r"t[._zpsW]{0,3}$")


class Scopes:
    """The scopes of one sentence.

    Attributes:
        polarity: index of a mention -> its polarity; None if nothing is said of the image (history,
            a question); mentions outside every scope are absent.
        state: at each index, the state set by forward cues; empty for none.
    """

    def __init__(self, roles: str, clauses: list[tuple[int, int]]) -> None:
        self.roles = roles
        self.polarity: dict[int, Polarity | None] = {}
        self.state = [""] * len(roles)
        in_condition = False
        for start, end in clauses:
            in_condition = in_condition and self._continues_condition(start, end)
            self._apply_forward_cues(start, end, state="I" if in_condition else "")
            in_condition = self.state[end - 1] == "I"
        for start, end in clauses:
            self._hedge_alternatives(start, end)
            self._apply_backward_cues(start, end)
            self._revoke_negation(start, end)

    def state_polarity(self, *indices: int) -> Polarity | None:
        """Polarity given by forward cues at the first of the indices that is in a scope."""
        state = next(filter(None, (self.state[i] for i in indices)), "")
        return _STATE_POLARITY.get(state, Polarity.POSITIVE)

    def is_place(self, i: int, start: int) -> bool:
        """Whether a mention only says where something is: "density adjacent to the heart"."""
        return _PLACE.search(self.roles[start:i]) is not None

    def is_unclear(self, i: int, clause: tuple[int, int]) -> bool:
        """Whether a mention is obscured or hedged: "heart size is obscured"."""
        hedged = self.polarity.get(i) is Polarity.UNCERTAIN or self.state[i] == "u"
        return hedged or "O" in self.roles[slice(*clause)]

    def find_adjective(self, i: int, clause: tuple[int, int]) -> int | None:
        """Index of the adjective of a mention: right before it, after it, or before its list."""
        roles, (start, end) = self.roles, clause
        if direct := _ADJECTIVE_BEFORE.search(roles, start, i):
            return direct.start()
        following = _ADJECTIVE.search(roles, i, end)
        if following and "w" not in roles[i : following.start()]:
            return following.start()
        listed = _ADJECTIVE_BEFORE_LIST.search(roles, start, i)
        return listed.start() if listed else None

    def adjective_polarity(self, i: int, adjective: int, start: int) -> Polarity | None:
        """Polarity that an adjective gives to neutral mention ``i`` of a clause from ``start``."""
        role, polarity = self.roles[adjective], self.state_polarity(adjective, i)
        negated = _NOT.search(self.roles, start, adjective) is not None
        hedged = role in "AJL" and self.polarity.get(i) is Polarity.UNCERTAIN
        if role == "B" or polarity is Polarity.UNCERTAIN or hedged:
            return Polarity.UNCERTAIN
        if role == "N":
            return Polarity.POSITIVE if negated else Polarity.NEGATIVE
        return Polarity.NEGATIVE if negated and polarity is not None else polarity

    def _continues_condition(self, start: int, end: int) -> bool:
        """Whether a clause belongs to a condition: "if pain persists, films for a fracture"."""
        clause = self.roles[start:end]
        return (
            clause[0] not in ";b"
            and "m" not in clause
            and ("C" in clause or not set("iuGnt") & set(clause))
        )

    def _apply_forward_cues(self, start: int, end: int, *, state: str = "") -> None:
        cue, suspended = start, False
        for i in range(start, end):
            role = self.roles[i]
            reached = has_target(self.roles[cue:i])
            new = self._next_state(state, role, reached=reached)
            if new:
                state, cue, suspended = new, i, False
            elif self._ends_scope(state, i, end, reached=reached):
                state = ""
            elif role == "P" and state == "n" and self.roles[cue + 1 : i].strip("gon"):
                suspended = True  # "no cavity within the mass": the mass is there
            elif role in ",ao":
                suspended = False
            self.state[i] = "" if suspended else state
            if role in ("d" if state == "M" else "fd") and self.state[i]:
                self.polarity[i] = _STATE_POLARITY[state]

    def _next_state(self, state: str, role: str, *, reached: bool) -> str | None:
        """The state that a role sets; ``reached``: the scope already holds a target."""
        if state == "I":
            return None
        new = _STATE.get(role)
        if new == "n" and state in ("u", "l") and not reached:
            return None  # "probably no effusion" stays hedged
        if state == "n" and (role in "GUv" or (new in ("u", "l") and not reached)):
            return None  # "no opacity suspicious for pneumonia" stays negated
        return new

    def _ends_scope(self, state: str, i: int, end: int, *, reached: bool) -> bool:
        role = self.roles[i]
        if state == "I":
            return role in ";b" or (role == "m" and reached)
        if role in "wy2;b":
            return True
        if state == "l":
            listed = _OR_FOLLOWS.match(self.roles, i, end)
            return role in ",a" and reached and not listed
        return (state == "H" and role in ",im") or (state == "Q" and role in "im")

    def _hedge_alternatives(self, start: int, end: int) -> None:
        """Hedge both of "atelectasis or pneumonia" and of "atelectasis versus pneumonia"."""
        for pattern in (_EITHER_OR, _VERSUS, _OR_INNOCENT):
            for match in pattern.finditer(self.roles, start, end):
                for i in range(*match.span()):
                    if self.roles[i] == "f":
                        self.polarity.setdefault(i, Polarity.UNCERTAIN)

    def _apply_backward_cues(self, start: int, end: int) -> None:
        for i in range(start, end):
            role = self.roles[i]
            if role not in _BACKWARD_CUES or self.state[i] == "I":
                continue
            if role in "lU" and (not self.state[i] or has_target(self.roles[i + 1 : end])):
                continue  # an adjective: a forward cue
            polarity, target_roles = _BACKWARD_CUES[role]
            targets = self._targets_before(i, target_roles, start)
            if targets and targets[-1] < start and self._is_other_side(start, i):
                continue  # "effusion on the right, none on the left"
            if not targets and role in "rq":
                targets = [j for j in range(i, end) if self.roles[j] in target_roles]
                targets = [j for j in targets if j not in self.polarity]
            for target in targets:
                if role == "=":  # the "line" was a skin fold; "widened" probably by rotation
                    overrides = {"d": None, "h": Polarity.UNCERTAIN}
                    self.polarity[target] = overrides.get(self.roles[target], polarity)
                elif self.polarity.get(target) is not Polarity.NEGATIVE:
                    self.polarity[target] = polarity

    def _is_other_side(self, start: int, i: int) -> bool:
        """Whether a clause without a target names a side, as does what precedes the clause."""
        sided = "g" in self.roles[start:i] and "g" in re.split("[;b]", self.roles[:start])[-1]
        return sided or _SIDE_FOLLOWS.match(self.roles, i + 1) is not None

    def _targets_before(self, cue: int, target_roles: str, start: int) -> list[int]:
        """Targets of a backward cue, nearest first, back to where another clause begins."""
        found: list[int] = []
        for i in range(cue - 1, -1, -1):
            role = self.roles[i]
            if found and (i < start or role in "ibwy2u"):
                break
            if role in target_roles:
                found.append(i)
            elif role in ";ntZ":
                break
        return found

    def _revoke_negation(self, start: int, end: int) -> None:
        """Undo a negation: "has resolved on the right but persists on the left"."""
        clause = self.roles[start:end]
        if re.match("b[.i]?(?:k|[sz][.P]{0,2}g)", clause) and not has_target(clause):
            for target in self._targets_before(start, "f", start):
                if self.polarity.get(target) is Polarity.NEGATIVE:
                    self.polarity[target] = Polarity.POSITIVE


def has_target(roles: str) -> bool:
    """Whether a finding, a device or a neutral mention is among ``roles``."""
    return any(target in roles for target in TARGETS)
