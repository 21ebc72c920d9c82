"""What is said of a thing that is always there: "heart size is normal", "lungs are clear".

Works on role strings, like `rag.report_nlp.scopes`. Such a mention says nothing by itself; an
adjective of its clause judges it, and a negation turns the adjective round.
"""

import re

from rag.report_nlp.scopes import Assertion, Scopes

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
    doubted = role in "AL" and scopes.verdict.get(at) is Assertion.DOUBTED
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
