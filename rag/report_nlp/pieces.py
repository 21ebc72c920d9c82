"""Cuts a sentence where it is really several: a full stop was forgotten, or it is a ticked form.

Works on the matches of `rag.report_nlp.lexicon` and on capitals; `rag.report_nlp.labeller` reads
each piece as a sentence of its own.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag.report_nlp.lexicon import FindingKind, PhraseMatch


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive matches that are read as one sentence, and the tick box at them: its role."""

    matches: tuple[PhraseMatch, ...]
    box: str = ""


TICKED, UNTICKED = "ticked", "unticked"
"""Roles of tick boxes."""

_STARTERS = frozenset(("the", "this", "these", "there", "both", "a", "an"))
_FUNCTION = frozenset(
    (
        *("of", "by", "for", "from", "per", "to", "at", "on", "in", "into", "under", "over"),
        *("the", "a", "an", "this", "that", "these", "her", "his", "last", "mr", "mrs", "dr", "st"),
        *("and", "or", "than", "as", "like", "via", "acute", "focal", "definite", "new"),
    )
)
_PREDICATES = frozenset(
    (
        *("normal", "enlarged", "borderline", "stable", "resolved", "excluded", "removed"),
        *("obscured", "seen", "doubted", "changed_verb", "increased", "change"),
        *("none", "answer_yes", "answer_no", "complication"),
    )
)
_ABSENT = frozenset(("negation", "answer_no", "none", "resolved"))
_PRESENT = frozenset(("answer_yes", "seen", "positive_for"))
_CHOICES = _ABSENT | _PRESENT | {"side"}
_SIZES = frozenset(("size", "large", "status"))
_ANSWERED = (FindingKind.FINDING, FindingKind.DEVICE)
_PLACING = frozenset(("the", "on", "at", "in"))


def split_pieces(sentence: str, matches: Sequence[PhraseMatch]) -> list[Piece]:
    """The sentence's matches in order, cut at tick boxes and forgotten stops."""
    boxes = [at for at, found in enumerate(matches) if found.role in (TICKED, UNTICKED)]
    found: list[Piece] = []
    for start, end, box in _between(boxes, matches):
        cuts = [start, *_forgotten_stops(sentence, matches[start:end], start), end]
        for first, last in itertools.pairwise(cuts):
            if first < last:
                found.append(Piece(tuple(matches[first:last]), box))
    return _with_answers(found)


def _with_answers(found: list[Piece]) -> list[Piece]:
    """Let a box at an answer tick what stands before it: "Effusion: [ ] yes [x] no"."""
    read: list[Piece] = []
    for piece in found:
        first = piece.matches[0]
        alone = piece.box and not any(match.findings for match in piece.matches)
        answer = first.role if alone and read else ""
        if answer in _ABSENT and piece.box == TICKED:
            read[-1] = replace(read[-1], box=UNTICKED)
        elif answer not in _ABSENT | _PRESENT:
            read.append(piece)
    return read


def _between(boxes: list[int], matches: Sequence[PhraseMatch]) -> list[tuple[int, int, str]]:
    """Start, end and box of what is ticked together: the boxes stand before it, or behind."""
    if not boxes:
        return [(0, len(matches), "")]
    roles = [matches[box].role for box in boxes]
    starts = [0, *(box + 1 for box in boxes)]
    if _stand_behind(boxes, matches):  # "Effusion [x] Pneumothorax [ ]"
        return list(zip(starts, boxes, roles, strict=False))
    return list(zip(starts, [*boxes, len(matches)], ["", *roles], strict=True))


def _stand_behind(boxes: list[int], matches: Sequence[PhraseMatch]) -> bool:
    """Whether each box follows what it ticks and none follows the last."""
    after = matches[boxes[-1] + 1 :]
    if any(found.findings for found in after) or (after and after[0].role in _CHOICES):
        return False
    starts = [0, *(box + 1 for box in boxes)]
    between = (matches[start:box] for start, box in zip(starts, boxes, strict=False))
    return all(any(found.findings for found in part) for part in between)


def _forgotten_stops(sentence: str, matches: Sequence[PhraseMatch], offset: int) -> list[int]:
    """Where a capital after a closed phrase begins a new sentence."""
    capitals = [at for at in range(1, len(matches)) if sentence[matches[at].start].isupper()]
    if not capitals or _is_title(sentence, matches):
        return []
    cuts = []
    since = 0
    for at in capitals:
        if _begins(sentence, matches, since, at):
            cuts.append(at + offset)
            since = at
    return cuts


def _is_title(sentence: str, matches: Sequence[PhraseMatch]) -> bool:
    """Whether every word of some length has a capital: "No Acute Cardiopulmonary Abnormality"."""
    if not matches:
        return True
    inside = [word for found in matches for word in found.words]
    answers = ("yes", "no", "y", "n")
    asked = any(a.key == "?" and b.key in answers for a, b in itertools.pairwise(matches))
    if (asked and not sentence.isupper()) or any(word.keys in ((":",), ("=",)) for word in inside):
        return False  # a form: its answers are short
    texts = [sentence[word.start : word.end] for word in inside if word.end - word.start > 3]
    return not any(text[0].islower() for text in texts)


def _begins(sentence: str, matches: Sequence[PhraseMatch], since: int, at: int) -> bool:
    word = matches[at].words[0]
    text = sentence[word.start : word.end]
    if not sentence[matches[at - 1].end : word.start].isspace():
        return False
    reached = any(found.findings or found.role == "complication" for found in matches[since:at])
    if not reached or not _is_closed(sentence, matches, at):
        return False
    # PICC, CHF, ET: only where a target begins
    if text != "A" and not re.fullmatch("[A-Z]?[a-z]+", text):
        previous = matches[at - 1]
        return bool(matches[at].findings and (previous.findings or previous.roles))
    if matches[at].findings or matches[at].roles or text.lower() in _STARTERS:
        return True
    named = (finding for found in matches[at + 1 : at + 4] for finding in found.findings)
    follows = any(finding.kind is not FindingKind.IGNORE for finding in named)
    return follows and bool(matches[at - 1].findings or matches[at - 1].roles)


def _is_closed(sentence: str, matches: Sequence[PhraseMatch], at: int) -> bool:
    """Whether the phrase before ``at`` can end a sentence: a finding, a verdict, a place."""
    found = matches[at - 1]
    role = found.role
    if found.findings or role in _PREDICATES:
        return True
    before = matches[at - 2] if at > 1 else None
    if role and before is not None:
        text = sentence[before.start : before.end]
        if role == "side":
            return before.role == "place" or text in _PLACING
        if role == "negation" and text in (":", "=", "?") and at > 2:
            # "Effusion: no Pneumothorax: no" answers, "Pleura: no Effusion" goes on
            return any(finding.kind in _ANSWERED for finding in matches[at - 3].findings)
        return role in _SIZES and before.role == "verb"
    text = sentence[found.start : found.end]
    if text.isdigit() and len(text) <= 2 and before is not None:
        return _is_closed(sentence, matches, at - 1)  # "1 No effusion 2 Heart enlarged"
    return not role and text.isalpha() and text[0].islower() and text not in _FUNCTION
