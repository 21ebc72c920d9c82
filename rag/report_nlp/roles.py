"""The letter of each role that a phrase plays; ``data/cues.toml`` says what each role does.

What a form says ("pneumothorax: no", "effusion (yes/no): yes", a ratio in numbers) becomes roles
too, so that the rules read it as if it had been written out.
"""

import itertools
import re
from collections.abc import Sequence

from rag.report_nlp.lexicon import FindingKind, PhraseMatch
from rag.report_nlp.sentences import load_toml

ROLE_LETTERS: dict[str, str] = {
    role: cue["letter"] for role, cue in load_toml("cues.toml").items() if "letter" in cue
}
"""Role in cues.toml -> its letter. ``f h d`` are findings, neutral mentions and devices, ``?`` is a
question mark that clings to a word, ``_`` is spent, a dot is any other word."""

_MAY_ANSWER = re.compile("[:783]|%(?=[,;]|$)")
_OTHER = "[^:bimntuGQHCIKAN]*"
_NONE_OF_LIST = re.compile(
    rf"(?P<list>{_OTHER}[fdh]{_OTHER}?)(?P<mark>[,:l]*)(?P<no>[%73r0]|ts)i?s?,?"
)
_QUESTIONS = (
    # the lungs are not clear: there is an opacity
    (re.compile("^([^;]*[tnK%][^;]*):(?=m)"), r"\1;"),
    # nodule: nipple shadow
    (re.compile("(?<=[fd]):(?=e?4(?:[,;]|$))"), "5"),
    # none of the following: effusion, edema
    (re.compile("^3[is._]{0,3}:"), lambda found: "n".ljust(len(found[0]), ".")),
)
_ANSWERS = (
    # heart enlarged: no -> a normal heart, and the other way round
    (
        re.compile("(?<=h)([.eizg]*)([AN])[,.]?:[%7](?=,|;|$)"),
        lambda found: (found[1] + ("A" if found[2] == "N" else "N")).ljust(len(found[0]), "_"),
    ),
    # pneumothorax: no
    (re.compile("(?<=[fdh])([^;fdhnti:]*)[:,][%7](?=,|;|$)"), r"\1.r"),
    # pneumothorax no, effusion yes
    (re.compile("(?<=[fd])%(?=,|;|$)"), "r"),
    (re.compile("(?<=[r8]),(?=[^;b]*[:8])"), ";"),
    (re.compile("%"), "n"),
    (re.compile("[:783]"), "."),
)


def _answers(roles: str) -> str:
    """The role string with its answers as verdicts; the length stays the same.

    ``%`` is a "no" that stands alone, a colon may be an equals sign: both are gone afterwards.
    """
    if not _MAY_ANSWER.search(roles):
        return roles.replace("%", "n")
    for pattern, replace in _QUESTIONS:
        roles = pattern.sub(replace, roles)
    whole = "3" in roles  # "effusion; edema: none of these"
    parts = [_none_of_list(part) for part in ([roles] if whole else re.split("(;)", roles))]
    roles = "".join(parts)
    for pattern, replace in _ANSWERS:
        roles = pattern.sub(replace, roles)
    return roles


def _none_of_list(part: str) -> str:
    """Deny the whole list of "pneumothorax, effusion, fracture: none"."""
    found = _NONE_OF_LIST.fullmatch(part)
    if not found or (found["no"] != "3" and ":" not in found["mark"]):
        return part
    if found["no"] == "ts" and "," not in found["list"]:
        return part
    listed = re.sub("[,;l]", ".", found["list"])
    return listed + "." * len(found["mark"]) + "r" + "_" * (len(part) - found.end("mark") - 1)


_RATIO = re.compile(r"ratio|ctr|index", re.I)
_RATIO_VALUE = re.compile(
    r"(?P<gap>(?:[^;.\d]|approx\.){0,40}?)(?P<value>\d{0,2}[.,]\d+|\d{1,3}(?:[.,]\d+)?)"
    r"(?:\s?(?:[cm]m\s?)?[/:]\s?(?P<of>\d+(?:[.,]\d+)?)|\s?(?P<percent>%|percent|per cent))?"
)
_BELOW = re.compile(
    r"less than|below|under|not (?:exceed|greater|more|above|over)|within|smaller|<|\u2264", re.I
)
_ABOVE = re.compile(r"greater than|more than|above|over|exceed|larger than|>|\u2265", re.I)


def _ratio_roles(sentence: str, matches: Sequence[PhraseMatch]) -> dict[int, str]:
    """Place of a match -> its letter, where a heart/chest ratio in numbers judges the heart.

    More than one half is enlarged. "Less than 0.6" and "more than 0.4" say neither.
    """
    roles: dict[int, str] = {}
    if not _RATIO.search(sentence):
        return roles
    for at, found in enumerate(matches):
        named = sentence[found.start : found.end]
        if not any(f.name == "cardiac_size" for f in found.findings) or not _RATIO.search(named):
            continue
        value = _RATIO_VALUE.match(sentence, found.end)
        verdict = _judge(value) if value else ""
        if value is None or not verdict:
            continue
        for other in range(at + 1, len(matches)):
            if matches[other].start < value.start("value") and not matches[other].findings:
                roles[other] = "_"
            elif matches[other].start < value.end():
                roles[other] = verdict if verdict not in roles.values() else "_"
        if verdict not in roles.values():
            roles[at + 1] = verdict
    return roles


def _judge(found: re.Match[str]) -> str:
    value = float(found["value"].replace(",", "."))
    if found["of"]:
        value /= float(found["of"].replace(",", ".")) or 1.0
    elif found["percent"] or value > 1:
        value /= 100
    if not 0.2 <= value <= 0.95:  # no ratio of a heart to a chest
        return ""
    if _BELOW.search(found["gap"]):
        return "N" if value <= 0.5 else ""
    if _ABOVE.search(found["gap"]):
        return "A" if value >= 0.5 else ""
    return "A" if value > 0.5 else "N"


_KIND_LETTERS = {
    FindingKind.FINDING: "f",
    FindingKind.NEUTRAL: "h",
    FindingKind.DEVICE: "d",
    FindingKind.IGNORE: ".",
}
_A_WAY = re.compile(
    r"\s*(?:back|slightly|somewhat|partially|partly|a few|with (?:its|the) tip|(?:in)?to\b"
    r"|(?:by\s+)?(?:about\s+|approximately\s+)?\d[\d.,]*\s*-?\s*(?:cm|mm|centi|milli))"
)
_BY_A_LENGTH = re.compile(r"[^.;,]{0,40}\bby\s+(?:about |approximately )?\d")


def role_string(sentence: str, matches: Sequence[PhraseMatch]) -> str:
    """The role string of the matches of one sentence, its answers read."""
    letters = [_letter(sentence, found) for found in matches]
    for at, (before, found) in enumerate(itertools.pairwise(matches), 1):
        low_volumes = any(finding.name == "low_volumes" for finding in found.findings)
        if low_volumes and before.role in ("due_to", "cause", "uncertain", "a"):
            letters[at] = ROLE_LETTERS["technical"]  # what makes something look large
        if before.key in ("?", "|") and letters[at] in ("%", "7", "8"):
            letters[at - 1] = ":"  # "effusion? yes", and a table's cells
        if found.key == "/" and letters[at - 1] in ("%", "7", "8"):
            letters[at] = ";"  # "effusion yes / pneumothorax no"
    for at, letter in _ratio_roles(sentence, matches).items():
        letters[at] = letter
    return _answers("".join(letters))


def _letter(sentence: str, found: PhraseMatch) -> str:
    if not found.findings:
        return _cue_letter(sentence, found)
    finding = found.findings[0]
    if finding.kind is FindingKind.NEUTRAL and not finding.label:
        return "."  # "lung" and "chest" are mostly places; "lungs are clear" is read later
    return _KIND_LETTERS[finding.kind]


def _cue_letter(sentence: str, found: PhraseMatch) -> str:
    if not found.role:
        return ":" if found.key in (":", "=") else "."
    if found.key == "were" and not sentence[: found.start].strip():
        return ROLE_LETTERS["conditional"]  # were pneumonia suspected, a film would help
    if found.role == "negation" and found.key == "no":
        return "%"
    if found.role == "likely" and found.words[0].keys == ("?",):
        # "effusion ?loculated": the mark clings to the next word, and the effusion is there
        ahead = sentence[found.end : found.end + 1].isalnum()
        return "?" if ahead and not sentence[: found.start][-1:].isalnum() else "l"
    moved = {"removed": _A_WAY, "removal_of": _BY_A_LENGTH}.get(found.role)
    if moved and moved.match(sentence, found.end):
        return "."  # "withdrawn 2 cm" leaves the tube in
    return ROLE_LETTERS.get(found.role, ".")
