"""Rewrites cues that only have a meaning together, and splits a sentence into clauses.

Works on the role string that `rag.report_nlp.labeller` explains: one letter per phrase.
"""

import itertools
import re
from collections.abc import Callable
from functools import partial

# Applied in turn: a pattern of roles, and the letter that replaces a match, at its start or at its
# end (">n"). Its other letters become "_", except for those named third.
_RULES = (
    # pneumothorax, tension absent -> it is there
    (r"\$[._i]{0,3}(?:r|t[._]?s)", "_"),
    (r"\$", "."),
    # positive for ends a denial, not positive for is one
    (r"[tn][._]{0,2}6", "n"),
    (r"6", "b"),
    # should symptoms persist -> a condition; the effusion should -> a verb
    (r"^[.]?\^|(?<=[,;])\^|(?<=C)[^fdh;b]{0,8}\^", ">I"),
    (r"\^", "i"),
    # if it grows, a tube should be placed -> the advice goes on
    (r"(?<=,)[^fh;bi,]{0,4}&", ">C", "d"),
    (r"&", "i"),
    # when pneumonia is suspected -> a condition
    (r"@(?=[^;b,]{0,6}[fd][^;b,fd]{0,3}[qU])", "I"),
    (r"@", "."),
    # the tube is out -> removed
    (r"(?<=d)!(?=[,;a]|$)", "R"),
    (r"!", "."),
    # removal of the tube is advised -> it is in place
    (r"M(?=[^;b]*C)", "_"),
    (r"(?<=C)[._e]{0,2}M", "_"),
    # a nipple shadow mimics a nodule
    (r"4[._e]{0,2}[uG](?=[._e]*f)", ">I"),
    # nodule - ?artifact
    (r"(?<=f),[?]4", "q"),
    # opacity, a nipple shadow
    (r"(?<=f),e4(?=[,;]|$)", ">="),
    # is not a skin fold; may be due to overlying tissue -> has no effect
    (r"[tnuGl][._ipe]{0,4}[25]?[._e]{0,3}4", "_"),
    # was a skin fold, is due to overlying tissue -> was never there
    (r"[i25][._eb]{0,3}[25]?[._e]{0,3}4", ">="),
    # is probably projectional -> the heart may be normal
    (r"[uGl][._p]{0,2}9", ">%", "uGl"),
    (r"i[._e]{0,2}9", ">="),
    # is due to rotation; possibly because of rotation -> the heart may be normal
    (r"i[._]{0,2}2[._e]{0,2}\+", "="),
    (r"(?:u|[uGl][._p]{0,2}[2y])[._e]{0,3}\+", "%"),
    # no longer clearly seen -> obscured; no longer seen -> resolved
    (r"K[.p]{0,2}W[.]?[sV]", "O"),
    (r"K[._]{0,2}[sV]", "r"),
    # no longer normal -> not; no longer any, no longer causes -> no
    (r"K[._eip]{0,2}(?=[NA])", ">t"),
    (r"K(?=[,;]|$)|K[._e]{0,2}q", "r"),
    (r"(?:^|(?<=[;b]))[^fdhK;b]*K(?=[^;b,]*[fd])", ">n", "mi"),
    (r"K(?=[^;b,am]*[fd])", "t"),
    # no longer large -> it has changed and is there
    (r"K[._]{0,2}[FOLzkcjJSYx1P]?", "_"),
    (r"[+59]", "."),
    # not obscuring -> has no effect
    (r"t[._]{0,2}O", "_"),
    # history of pneumothorax; none today
    (r";(?=r)", ","),
    # not clearly seen, cannot be assessed -> obscured
    (r"t[.p]{0,2}W[.]?[sV]", "O"),
    (r"t[.pi]{0,2}V|t[.pi]{0,2}s[.]?W", "O"),
    # cannot be excluded, difficult to exclude, does not exclude
    (r"[tn][.pWil]{0,4}X", ">q"),
    (r"[tn][.pWilz]{0,4}x(?=[^;b]*[fdh])", ">u"),
    (r"[tn][.pWilz]{0,4}x", ">q"),
    # if the effusion grows -> it is there
    (r"I(?=[.]f[._]{0,2}[cjJ])", "_"),
    # effusion, probably old
    (r"(?<=,)[l?](?=[kz](?:[,;]|$))", "_"),
    # cardiomegaly - present, effusion - absent
    (r"(?<=[fdh],[sr]),(?=[.gzkeL]{0,3}[fdh])", ";"),
    # no enlargement of the heart / of the nodule
    (r"E(?=[.ezgkP]{0,3}h)", "A"),
    (r"E(?=[.ezgkP]{0,3}f)", "c"),
    # no change in, has not increased -> stable
    (r"[tn][.pzkgWNeA]{0,4}c(?:[oa]?[.]?[cjJ])*", "S"),
    (r"t[.pWz]{0,3}[jJ](?:[oan]?[.]?[cjJ])*", "S"),
    # partial resolution, nearly resolved, has not resolved, not without -> still there
    (r"p[._]{0,2}[rZ]", "_"),
    (r"[tnT][.pSWk_iz]{0,3}[rRZMX]", "_"),
    (r"t[._]{0,2}n", "_"),
    (r"[DC][._pki]{0,3}[Zr]", "_"),
    # evaluation for pneumothorax is limited
    (r"Q(?=[^;b]*iY)", "u"),
    # may have resolved
    (r"[uGl][._ip]{0,2}[rX]", ">q"),
    # may be due to, likely secondary to; ", possibly because of"
    (r"[uGl][._p]{0,2}2|(?<=[,b])[uGl][._p]{0,2}y", "u"),
)


def _replacement(letter: str, keep: str = "") -> Callable[[re.Match[str]], str]:
    """The replacement of a rule of `_RULES`, as long as the match."""

    def replace(match: re.Match[str]) -> str:
        at_end = letter[0] == ">"
        others = match.group()[:-1] if at_end else match.group()[1:]
        blanked = "".join(role if role in keep else "_" for role in others)
        return blanked + letter[1] if at_end else letter + blanked

    return replace


_REWRITES = [(re.compile(pattern), _replacement(*rule)) for pattern, *rule in _RULES]

_NOT_SEEN = re.compile(r"t[._izWp]{0,3}s")
_TIP_NOT_SEEN = re.compile(r"(?:1[.]{0,3}d|1)[^;bfdh]{0,4}r")
_MAY_BE_SEEN = re.compile(r"u[._p]{0,2}s")


def rewrite_roles(roles: str) -> str:
    """Merge cues that have one meaning together; the length stays the same."""
    if "0" in roles:
        roles = _resolve_none(roles)
    for pattern, replace in _REWRITES:
        roles = pattern.sub(replace, roles)
    roles = roles.replace("x", "u" if "C" in roles or "I" in roles else "Q")
    if "C" in roles:
        roles = roles.replace("Q", "u")
    for pattern, letter in ((_NOT_SEEN, "r"), (_MAY_BE_SEEN, "q")):
        roles = pattern.sub(partial(_replace_seen, letter), roles)
    # a tip that is not seen still means that there is a tube
    return _TIP_NOT_SEEN.sub(lambda match: match.group()[:-1] + "_", roles)


def _replace_seen(letter: str, match: re.Match[str]) -> str:
    """Make "not seen" or "may be seen" a cue of what precedes it, if that is a target."""
    before = re.split("[;b]", match.string[: match.start()])[-1]
    cue = letter if re.search("[fdh]", before) else match.group()[0]
    return cue.ljust(len(match.group()), "_")


def _resolve_none(roles: str) -> str:
    """Let "none" negate what precedes it, unless it refers to the other side only.

    "Right effusion, none on the left" and "effusion: right small, left none" are effusions.
    """
    for match in re.finditer("0", roles):
        before = re.split("[;b]", roles[: match.start()].rstrip(";"))[-1]
        other_side = (
            _OTHER_SIDE_BEFORE.search(before)
            or (re.search("g[^;b]*[fd]|[fd][^;b]*g", before) and _SIDE.match(roles, match.end()))
            or (not before and _OTHER_SIDE_AFTER.match(roles, match.end()))
        )
        roles = roles[: match.start()] + ("_" if other_side else "r") + roles[match.end() :]
    return roles


_SIDE = re.compile(r"i?[.P]{0,2}g")
_OTHER_SIDE_AFTER = re.compile(r"[.P]{0,3}g[.]{0,2},[^;b,nt]*(?:g[^;b,nt]*[fd]|[fd][^;b,nt]*g)")
_OTHER_SIDE_BEFORE = re.compile(r"(?:g[^;bnrt0]*[fd]|[fd][^;bnrt0]*g)[^;bnrt0]*,[.P]{0,2}g[.]?$")
_SUBJECT_VERB = re.compile(r"[^imu]*[fhd.][^imu]*[iu]|[^iu]*m")
_PREDICATE = re.compile(r"[qrOXR]")
_EXISTENTIAL = re.compile(r"[.f,aohd]*i[._]?s")
_CLAUSE_STARTS = {",": re.compile(r"[.]?[ezkgASLulGUm]"), "a": re.compile(r"[.]?[ezkASLmlu]")}
"""What begins a clause after a negation: behind a comma, and behind "and"."""


def split_clauses(roles: str) -> list[tuple[int, int]]:
    """Offsets of the clauses of a role string, in order and without gaps."""
    cuts = [0]
    for match in re.finditer(r"[;b]|,?a|,", roles):
        separator = match.group()
        rest = re.split("[;b]", roles[match.end() :], maxsplit=1)[0]
        if separator in ";b" or _begins_clause(roles[cuts[-1] : match.start()], separator, rest):
            cuts.append(match.start())
    cuts.append(len(roles))
    return [(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def _begins_clause(left: str, separator: str, rest: str) -> bool:
    """Whether a comma or "and" after ``left`` begins a clause; otherwise it continues a list."""
    if re.search(r"[ntulGUZ][^fdhims]*$", left):
        return False  # "no acute, displaced fracture": the cue has not reached its noun yet
    part = rest.partition(",")[0]
    has_cue = bool(re.search(r"[ntZulGU]", left))
    if _SUBJECT_VERB.match(part):
        return _begins_main_clause(left, separator, part, has_cue=has_cue)
    has_target = bool(re.search(r"[fhd]", part))
    listed = "o" in re.split("[iu]", rest, maxsplit=1)[0] or ("a" in separator and "u" in left)
    return bool(
        re.search(r"[nt]", part)
        or (has_target and _PREDICATE.search(part) and "a" not in separator)
        or (has_cue and re.match("[.]?[lu]", part))
        or (has_cue and not listed and _CLAUSE_STARTS[separator[-1]].match(part))
        # heart normal, mediastinum widened
        or (re.search(r"h.*[ANBSOL]", left) and "h" in part and re.search(r"[ANBSO]", part))
    )


def _begins_main_clause(left: str, separator: str, part: str, *, has_cue: bool) -> bool:
    subject = re.split("[iu]", part, maxsplit=1)[0]
    if has_cue and "o" in subject:
        return False  # no effusion, pneumothorax or edema is seen
    if "a" in separator:
        if has_cue and "s" not in left and _EXISTENTIAL.match(part):
            return False  # no effusion and pneumothorax is seen
        listed = "," in left or separator == "a"
        return bool(re.search(r"[im]", left)) or has_cue or not listed
    # the heart, mediastinum and lungs are normal
    return not ("a" in subject and not re.search(r"[imnt]", left))
