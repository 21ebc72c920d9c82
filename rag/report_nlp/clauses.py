"""Where a clause begins, and which phrases of a clause belong together.

Works on the role string that `rag.report_nlp.labeller` explains: one letter per phrase.
"""

import itertools
import re
from collections.abc import Callable

_Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def _becomes(letter: str, *, last: bool = False, keep: str = "") -> Callable[[re.Match[str]], str]:
    """Replace a match by ``letter`` at its start (or end) and spent places, length unchanged."""

    def replace(found: re.Match[str]) -> str:
        others = found.group()[:-1] if last else found.group()[1:]
        spent = "".join(role if role in keep else "_" for role in others)
        return spent + letter if last else letter + spent

    return replace


_spent = _becomes("_")

_RARE_RULES: tuple[tuple[str, tuple[_Rule, ...]], ...] = (
    # pneumothorax, tension absent -> it is there
    ("$", ((re.compile(r"\$[._i]{0,3}(?:r|t[._]?s)"), _spent), (re.compile(r"\$"), _becomes(".")))),
    # positive for ends a denial, not positive for is one
    ("6", ((re.compile(r"[tn][._]{0,2}6"), _becomes("n")), (re.compile("6"), _becomes("b")))),
    # should symptoms persist -> a condition; the effusion should -> a verb
    (
        "^",
        (
            (
                re.compile(r"^[.]?\^|(?<=[,;])\^|(?<=C)[^fdh;b]{0,8}\^"),
                _becomes("I", last=True),
            ),
            (re.compile(r"\^"), _becomes("i")),
        ),
    ),
    # if it grows, a tube should be placed -> the advice goes on
    (
        "&",
        (
            (re.compile(r"(?<=,)[^fh;bi,]{0,4}&"), _becomes("C", last=True, keep="d")),
            (re.compile(r"&"), _becomes("i")),
        ),
    ),
    # when pneumonia is suspected -> a condition
    (
        "@",
        (
            (re.compile(r"@(?=[^;b,]{0,6}[fd][^;b,fd]{0,3}[qU])"), _becomes("I")),
            (re.compile(r"@"), _becomes(".")),
        ),
    ),
    # the tube is out
    (
        "!",
        (
            (re.compile(r"(?<=d)!(?=[,;a]|$)"), _becomes("R")),
            (re.compile(r"!"), _becomes(".")),
        ),
    ),
    # removal of the tube is advised -> it is in
    (
        "M",
        (
            (re.compile(r"M(?=[^;b]*C)"), _spent),
            (re.compile(r"(?<=C)[._e]{0,2}M"), _spent),
        ),
    ),
    (
        "4",
        (
            # a nipple shadow mimics a nodule
            (re.compile(r"4[._e]{0,2}[uG](?=[._e]*f)"), _becomes("I", last=True)),
            # nodule - ?artifact
            (re.compile(r"(?<=f),[?]4"), _becomes("q")),
            # opacity, a nipple shadow
            (re.compile(r"(?<=f),e4(?=[,;]|$)"), _becomes("=", last=True)),
            # is not a skin fold; may be due to overlying tissue -> says nothing more
            (re.compile(r"[tnuGl][._ipe]{0,4}[25]?[._e]{0,3}4"), _spent),
            # was a skin fold, is due to overlying tissue -> was never there
            (re.compile(r"[i25][._eb]{0,3}[25]?[._e]{0,3}4"), _becomes("=", last=True)),
        ),
    ),
    (
        "9",
        (
            # is probably projectional -> the heart may be normal
            (re.compile(r"[uGl][._p]{0,2}9"), _becomes("%", last=True, keep="uGl")),
            (re.compile(r"i[._e]{0,2}9"), _becomes("=", last=True)),
        ),
    ),
    # possibly because of rotation -> the heart may be normal
    (
        "+",
        (
            # is due to rotation
            (re.compile(r"i[._]{0,2}2[._e]{0,2}\+"), _becomes("=")),
            (re.compile(r"(?:u|[uGl][._p]{0,2}[2y])[._e]{0,3}\+"), _becomes("%")),
        ),
    ),
    (
        "K",
        (
            # no longer clearly seen -> obscured; no longer seen -> resolved
            (re.compile(r"K[.p]{0,2}W[.]?[sV]"), _becomes("O")),
            (re.compile(r"K[._]{0,2}[sV]"), _becomes("r")),
            # no longer normal -> not; no longer any, no longer causes -> no
            (re.compile(r"K[._eip]{0,2}(?=[NA])"), _becomes("t", last=True)),
            (re.compile(r"K(?=[,;]|$)|K[._e]{0,2}q"), _becomes("r")),
            (
                re.compile(r"(?:^|(?<=[;b]))[^fdhK;b]*K(?=[^;b,]*[fd])"),
                _becomes("n", last=True, keep="mi"),
            ),
            (re.compile(r"K(?=[^;b,am]*[fd])"), _becomes("t")),
            # no longer large -> it has changed and is there
            (re.compile(r"K[._]{0,2}[FOLzkcjJSYx1P]?"), _spent),
        ),
    ),
)
"""Rules for roles that most sentences do not have, with the letter that each group is about."""

_RULES: tuple[_Rule, ...] = (
    # not obscuring -> says nothing
    (re.compile(r"t[._]{0,2}O"), _spent),
    # history of pneumothorax; none today
    (re.compile(r";(?=r)"), _becomes(",")),
    # not clearly seen, cannot be assessed -> obscured
    (re.compile(r"t[.p]{0,2}W[.]?[sV]"), _becomes("O")),
    (re.compile(r"t[.pi]{0,2}V|t[.pi]{0,2}s[.]?W"), _becomes("O")),
    # cannot be excluded, difficult to exclude, does not exclude
    (re.compile(r"[tn][.pWil]{0,4}X"), _becomes("q", last=True)),
    (re.compile(r"[tn][.pWilz]{0,4}x(?=[^;b]*[fdh])"), _becomes("u", last=True)),
    (re.compile(r"[tn][.pWilz]{0,4}x"), _becomes("q", last=True)),
    # if the effusion grows -> it is there
    (re.compile(r"I(?=[.]f[._]{0,2}[cjJ])"), _spent),
    # effusion, probably old
    (re.compile(r"(?<=,)[l?](?=[kz](?:[,;]|$))"), _spent),
    # cardiomegaly - present, effusion - absent
    (re.compile(r"(?<=[fdh],[sr]),(?=[.gzkeL]{0,3}[fdh])"), _becomes(";")),
    # no enlargement of the heart / of the nodule
    (re.compile(r"E(?=[.ezgkP]{0,3}h)"), _becomes("A")),
    (re.compile(r"E(?=[.ezgkP]{0,3}f)"), _becomes("c")),
    # no change in, has not increased -> stable
    (re.compile(r"[tn][.pzkgWNeA]{0,4}c(?:[oa]?[.]?[cjJ])*"), _becomes("S")),
    (re.compile(r"t[.pWz]{0,3}[jJ](?:[oan]?[.]?[cjJ])*"), _becomes("S")),
    # partial resolution, nearly resolved, has not resolved, not without -> still there
    (re.compile(r"p[._]{0,2}[rZ]"), _spent),
    (re.compile(r"[tnT][.pSWk_iz]{0,3}[rRZMX]"), _spent),
    (re.compile(r"t[._]{0,2}n"), _spent),
    (re.compile(r"[DC][._pki]{0,3}[Zr]"), _spent),
    # evaluation for pneumothorax is limited
    (re.compile(r"Q(?=[^;b]*iY)"), _becomes("u")),
    # may have resolved
    (re.compile(r"[uGl][._ip]{0,2}[rX]"), _becomes("q", last=True)),
    # may be due to, likely secondary to; ", possibly because of"
    (re.compile(r"[uGl][._p]{0,2}2|(?<=[,b])[uGl][._p]{0,2}y"), _becomes("u")),
)

_LEFT_OVER = re.compile("[+59]")
_NOT_SEEN = re.compile(r"t[._izWp]{0,3}s")
_TIP_NOT_SEEN = re.compile(r"(?:1[.]{0,3}d|1)[^;bfdh]{0,4}r")
_MAY_BE_SEEN = re.compile(r"u[._p]{0,2}s")


def rewrite(roles: str) -> str:
    """Join what means something only together; the length stays the same."""
    if "0" in roles:
        roles = _none_elsewhere(roles)
    for letter, rules in _RARE_RULES:
        if letter in roles:
            for pattern, replace in rules:
                roles = pattern.sub(replace, roles)
    roles = _LEFT_OVER.sub(".", roles)
    for pattern, replace in _RULES:
        roles = pattern.sub(replace, roles)
    asked = "u" if "C" in roles or "I" in roles else "Q"
    roles = roles.replace("x", asked)
    if "C" in roles:
        roles = roles.replace("Q", "u")
    for pattern, letter in ((_NOT_SEEN, "r"), (_MAY_BE_SEEN, "q")):
        found = pattern.search(roles)
        while found:
            before = re.split(r"[;b]", roles[: found.start()])[-1]
            new = letter if re.search(r"[fdh]", before) else found.group()[0]
            roles = (
                roles[: found.start()] + new + "_" * (len(found.group()) - 1) + roles[found.end() :]
            )
            found = pattern.search(roles, found.end())
    # a tip that is not seen says that the tube is there
    return _TIP_NOT_SEEN.sub(lambda found: found.group()[:-1] + "_", roles)


def _none_elsewhere(roles: str) -> str:
    """Let "none" deny what stands before it, unless it speaks of the other side only.

    "Right effusion, none on the left" and "effusion: right small, left none" are effusions.
    """
    for found in re.finditer("0", roles):
        before = re.split("[;b]", roles[: found.start()].rstrip(";"))[-1]
        elsewhere = (
            _OTHER_NAMED.search(before)
            or (re.search("g[^;b]*[fd]|[fd][^;b]*g", before) and _SIDE.match(roles, found.end()))
            or (not before and _OTHER_FOLLOWS.match(roles, found.end()))
        )
        roles = roles[: found.start()] + ("_" if elsewhere else "r") + roles[found.end() :]
    return roles


_SIDE = re.compile(r"i?[.P]{0,2}g")
_OTHER_FOLLOWS = re.compile(r"[.P]{0,3}g[.]{0,2},[^;b,nt]*(?:g[^;b,nt]*[fd]|[fd][^;b,nt]*g)")
_OTHER_NAMED = re.compile(r"(?:g[^;bnrt0]*[fd]|[fd][^;bnrt0]*g)[^;bnrt0]*,[.P]{0,2}g[.]?$")
_SUBJECT_VERB = re.compile(r"[^imu]*[fhd.][^imu]*[iu]|[^iu]*m")
_PREDICATE = re.compile(r"[qrOXR]")
_EXISTENTIAL = re.compile(r"[.f,aohd]*i[._]?s")
_MARKED = {",": re.compile(r"[.]?[ezkgASLulGUm]"), "a": re.compile(r"[.]?[ezkASLmlu]")}


def clauses(roles: str) -> list[tuple[int, int]]:
    """Offsets of the clauses of a role string, in order and without gaps."""
    cuts = [0]
    for found in re.finditer(r"[;b]|,?a|,", roles):
        separator = found.group()
        if separator in ";b":
            cuts.append(found.start())
            continue
        rest = re.match(r"[^;b]*", roles[found.end() :])
        assert rest is not None  # noqa: S101 - the pattern matches the empty string
        if _begins_clause(roles[cuts[-1] : found.start()], separator, rest.group()):
            cuts.append(found.start())
    cuts.append(len(roles))
    return [(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def _begins_clause(left: str, separator: str, rest: str) -> bool:
    """Whether a comma or "and" after ``left`` begins a clause; otherwise it goes on with a list."""
    if re.search(r"[ntulGUZ][^fdhims]*$", left):
        return False  # "no acute, displaced fracture": the cue has not reached its noun yet
    part = rest.partition(",")[0]
    denies = bool(re.search(r"[ntZulGU]", left))
    if _SUBJECT_VERB.match(part):
        return _sentence_follows(left, separator, part, denies=denies)
    has_target = bool(re.search(r"[fhd]", part))
    listed = "o" in re.split("[iu]", rest, maxsplit=1)[0] or ("a" in separator and "u" in left)
    return bool(
        re.search(r"[nt]", part)
        or (has_target and _PREDICATE.search(part) and "a" not in separator)
        or (denies and re.match("[.]?[lu]", part))
        or (denies and not listed and _MARKED[separator[-1]].match(part))
        # heart normal, mediastinum widened
        or (re.search(r"h.*[ANBSOL]", left) and "h" in part and re.search(r"[ANBSO]", part))
    )


def _sentence_follows(left: str, separator: str, part: str, *, denies: bool) -> bool:
    subject = re.split("[iu]", part, maxsplit=1)[0]
    if denies and "o" in subject:
        return False  # no effusion, pneumothorax or edema is seen
    if "a" in separator:
        if denies and "s" not in left and _EXISTENTIAL.match(part):
            return False  # no effusion and pneumothorax is seen
        listed = "," in left or separator == "a"
        return bool(re.search(r"[im]", left)) or denies or not listed
    # the heart, mediastinum and lungs are normal
    return not ("a" in subject and not re.search(r"[imnt]", left))
