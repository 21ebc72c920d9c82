"""Turns the phrases of a sentence into its role string: one letter per phrase.

``data/cues.toml`` says what each role does. Answers of a form ("pneumothorax: no", "effusion
(yes/no): yes") and cardiothoracic ratios become roles, as if they had been written out.
"""

import itertools
import re
from collections.abc import Sequence

from rag.report_nlp.lexicon import FindingKind, PhraseMatch, load_toml

ROLE_LETTERS: dict[str, str] = {
    role: cue["letter"] for role, cue in load_toml("cues.toml").items() if "letter" in cue
}
"""Role in cues.toml -> its letter. ``f h d`` are findings, neutral mentions and devices, ``?`` is a
question mark attached to a word, ``_`` is a letter used up by a rule, a dot is any other word."""

_HAS_ANSWER = re.compile("[:783]|%(?=[,;]|$)")
_NO_CUE = "[^:bimntuGQHCIKAN]*"
_NONE_OF_LIST = re.compile(
    rf"(?P<list>{_NO_CUE}[fdh]{_NO_CUE}?)(?P<mark>[,:l]*)(?P<no>[%73r0]|ts)i?s?,?"
)
_COLON_REWRITES = (
    # the lungs are not clear: there is an opacity
    (re.compile("^([^;]*[tnK%][^;]*):(?=m)"), r"\1;"),
    # nodule: nipple shadow
    (re.compile("(?<=[fd]):(?=e?4(?:[,;]|$))"), "5"),
    # none of the following: effusion, edema
    (re.compile("^3[is._]{0,3}:"), lambda match: "n".ljust(len(match[0]), ".")),
)
_ANSWER_REWRITES = (
    # heart enlarged: no -> a normal heart; heart normal: no -> an enlarged one
    (
        re.compile("(?<=h)([.eizg]*)([AN])[,.]?:[%7](?=,|;|$)"),
        lambda match: (match[1] + ("A" if match[2] == "N" else "N")).ljust(len(match[0]), "_"),
    ),
    # pneumothorax: no
    (re.compile("(?<=[fdh])([^;fdhnti:]*)[:,][%7](?=,|;|$)"), r"\1.r"),
    # pneumothorax no, effusion yes
    (re.compile("(?<=[fd])%(?=,|;|$)"), "r"),
    (re.compile("(?<=[r8]),(?=[^;b]*[:8])"), ";"),
    (re.compile("%"), "n"),
    (re.compile("[:783]"), "."),
)


def _rewrite_answers(roles: str) -> str:
    """Replace answers by cues; the length stays the same.

    ``%`` is the word "no", ``:`` a colon or equals sign; neither is left afterwards.
    """
    if not _HAS_ANSWER.search(roles):
        return roles.replace("%", "n")
    for pattern, replace in _COLON_REWRITES:
        roles = pattern.sub(replace, roles)
    # "effusion; edema: none of these" negates across semicolons
    parts = [roles] if "3" in roles else re.split("(;)", roles)
    roles = "".join(map(_negate_list, parts))
    for pattern, replace in _ANSWER_REWRITES:
        roles = pattern.sub(replace, roles)
    return roles


def _negate_list(part: str) -> str:
    """Negate the whole list of "pneumothorax, effusion, fracture: none"."""
    match = _NONE_OF_LIST.fullmatch(part)
    if not match or (match["no"] != "3" and ":" not in match["mark"]):
        return part
    if match["no"] == "ts" and "," not in match["list"]:
        return part
    listed = re.sub("[,;l]", ".", match["list"])
    return listed + "." * len(match["mark"]) + "r" + "_" * (len(part) - match.end("mark") - 1)


_RATIO = re.compile(r"ratio|ctr|index", re.I)
_RATIO_VALUE = re.compile(
    r"(?P<gap>(?:[^;.\d]|approx\.){0,40}?)(?P<value>\d{0,2}[.,]\d+|\d{1,3}(?:[.,]\d+)?)"
    r"(?:\s?(?:[cm]m\s?)?[/:]\s?(?P<of>\d+(?:[.,]\d+)?)|\s?(?P<percent>%|percent|per cent))?"
)
_UPPER_BOUND = re.compile(
    r"less than|below|under|not (?:exceed|greater|more|above|over)|within|smaller|<|\u2264", re.I
)
_LOWER_BOUND = re.compile(r"greater than|more than|above|over|exceed|larger than|>|\u2265", re.I)


def _ratio_roles(sentence: str, matches: Sequence[PhraseMatch]) -> dict[int, str]:
    """Index of a match -> its letter, where a cardiothoracic ratio makes the heart normal or large.

    Above 0.5 it is enlarged. "Less than 0.6" and "more than 0.4" decide nothing.
    """
    roles: dict[int, str] = {}
    if not _RATIO.search(sentence):
        return roles
    for i, match in enumerate(matches):
        text = sentence[match.start : match.end]
        if not any(f.name == "cardiac_size" for f in match.findings) or not _RATIO.search(text):
            continue
        value = _RATIO_VALUE.match(sentence, match.end)
        letter = _judge_ratio(value) if value else ""
        if value is None or not letter:
            continue
        for j in range(i + 1, len(matches)):
            if matches[j].start < value.start("value") and not matches[j].findings:
                roles[j] = "_"
            elif matches[j].start < value.end():
                roles[j] = letter if letter not in roles.values() else "_"
        if letter not in roles.values():
            roles[i + 1] = letter
    return roles


def _judge_ratio(match: re.Match[str]) -> str:
    value = float(match["value"].replace(",", "."))
    if match["of"]:
        value /= float(match["of"].replace(",", ".")) or 1.0
    elif match["percent"] or value > 1:
        value /= 100
    if not 0.2 <= value <= 0.95:  # not a cardiothoracic ratio
        return ""
    if _UPPER_BOUND.search(match["gap"]):
        return "N" if value <= 0.5 else ""
    if _LOWER_BOUND.search(match["gap"]):
        return "A" if value >= 0.5 else ""
    return "A" if value > 0.5 else "N"


_KIND_LETTERS = {
    FindingKind.FINDING: "f",
    FindingKind.NEUTRAL: "h",
    FindingKind.DEVICE: "d",
    FindingKind.IGNORE: ".",
}
_SHORT_DISTANCE = re.compile(
    r"\s*(?:back|slightly|somewhat|partially|partly|a few|with (?:its|the) tip|(?:in)?to\b"
    r"|(?:by\s+)?(?:about\s+|approximately\s+)?\d[\d.,]*\s*-?\s*(?:cm|mm|centi|milli))"
)
_BY_LENGTH = re.compile(r"[^.;,]{0,40}\bby\s+(?:about |approximately )?\d")


def role_string(sentence: str, matches: Sequence[PhraseMatch]) -> str:
    """The role string of a sentence, one letter per match."""
    letters = [_letter(sentence, match) for match in matches]
    for i, (before, match) in enumerate(itertools.pairwise(matches), 1):
        low_volumes = any(finding.name == "low_volumes" for finding in match.findings)
        if low_volumes and before.role in ("due_to", "cause", "uncertain", "a"):
            letters[i] = ROLE_LETTERS["technical"]  # a reason why something looks large
        if before.key in ("?", "|") and letters[i] in ("%", "7", "8"):
            letters[i - 1] = ":"  # "effusion? yes", and cells of a table
        if match.key == "/" and letters[i - 1] in ("%", "7", "8"):
            letters[i] = ";"  # "effusion yes / pneumothorax no"
    for i, letter in _ratio_roles(sentence, matches).items():
        letters[i] = letter
    return _rewrite_answers("".join(letters))


def _letter(sentence: str, match: PhraseMatch) -> str:
    if not match.findings:
        return _cue_letter(sentence, match)
    finding = match.findings[0]
    if finding.kind is FindingKind.NEUTRAL and not finding.label:
        return "."  # "lung" and "chest" are mostly places; "lungs are clear" is read later
    return _KIND_LETTERS[finding.kind]


def _cue_letter(sentence: str, match: PhraseMatch) -> str:
    if not match.role:
        return ":" if match.key in (":", "=") else "."
    if match.key == "were" and not sentence[: match.start].strip():
        return ROLE_LETTERS["conditional"]  # were pneumonia suspected, a film would help
    if match.role == "negation" and match.key == "no":
        return "%"
    if match.role == "likely" and match.tokens[0].keys == ("?",):
        # "effusion ?loculated": the mark belongs to the next word, and the effusion is there
        before_word = sentence[match.end : match.end + 1].isalnum()
        return "?" if before_word and not sentence[: match.start][-1:].isalnum() else "l"
    distance = {"removed": _SHORT_DISTANCE, "removal_of": _BY_LENGTH}.get(match.role)
    if distance and distance.match(sentence, match.end):
        return "."  # "withdrawn 2 cm" leaves the tube in
    return ROLE_LETTERS.get(match.role, ".")
