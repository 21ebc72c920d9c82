"""Splits what is really several sentences: a full stop is missing, or a form has tick boxes.

Works on phrase matches (`rag.report_nlp.lexicon`) and capital letters. Each piece is then read as a
sentence of its own.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rag.report_nlp.lexicon import FindingKind, PhraseMatch


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive matches that are read as one sentence, and the role of their tick box, if any."""

    matches: tuple[PhraseMatch, ...]
    box: str = ""


TICKED, UNTICKED = "ticked", "unticked"
"""Roles of tick boxes."""

_SENTENCE_STARTERS = frozenset(("the", "this", "these", "there", "both", "a", "an"))
_CANNOT_END_SENTENCE = frozenset(
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
_NEGATIVE_ANSWERS = frozenset(("negation", "answer_no", "none", "resolved"))
_POSITIVE_ANSWERS = frozenset(("answer_yes", "seen", "positive_for"))
_TICKABLE = _NEGATIVE_ANSWERS | _POSITIVE_ANSWERS | {"side"}
_SIZES = frozenset(("size", "large", "status"))
_BEFORE_SIDE = frozenset(("the", "on", "at", "in"))


def split_pieces(sentence: str, matches: Sequence[PhraseMatch]) -> list[Piece]:
    """The matches in order, split at tick boxes and missing full stops."""
    boxes = [i for i, match in enumerate(matches) if match.role in (TICKED, UNTICKED)]
    pieces: list[Piece] = []
    for start, end, box in _ticked_ranges(boxes, matches):
        cuts = [start, *_missing_stops(sentence, matches[start:end], start), end]
        pieces += [Piece(tuple(matches[a:b]), box) for a, b in itertools.pairwise(cuts) if a < b]
    return _apply_ticked_answers(pieces)


def _apply_ticked_answers(pieces: list[Piece]) -> list[Piece]:
    """Let a ticked answer apply to the piece before it: "Effusion: [ ] yes [x] no"."""
    merged: list[Piece] = []
    for piece in pieces:
        is_answer = piece.box and merged and not any(match.findings for match in piece.matches)
        answer = piece.matches[0].role if is_answer else ""
        if answer in _NEGATIVE_ANSWERS and piece.box == TICKED:
            merged[-1] = replace(merged[-1], box=UNTICKED)
        elif answer not in _NEGATIVE_ANSWERS | _POSITIVE_ANSWERS:
            merged.append(piece)
    return merged


def _ticked_ranges(boxes: list[int], matches: Sequence[PhraseMatch]) -> list[tuple[int, int, str]]:
    """Start, end and box role of what each tick box refers to; boxes may stand before or behind."""
    if not boxes:
        return [(0, len(matches), "")]
    roles = [matches[box].role for box in boxes]
    starts = [0, *(box + 1 for box in boxes)]
    if _are_boxes_behind(boxes, matches):  # "Effusion [x] Pneumothorax [ ]"
        return list(zip(starts, boxes, roles, strict=False))
    return list(zip(starts, [*boxes, len(matches)], ["", *roles], strict=True))


def _are_boxes_behind(boxes: list[int], matches: Sequence[PhraseMatch]) -> bool:
    rest = matches[boxes[-1] + 1 :]
    if any(match.findings for match in rest) or (rest and rest[0].role in _TICKABLE):
        return False
    starts = [0, *(box + 1 for box in boxes)]
    before_boxes = (matches[start:box] for start, box in zip(starts, boxes, strict=False))
    return all(any(match.findings for match in part) for part in before_boxes)


def _missing_stops(sentence: str, matches: Sequence[PhraseMatch], offset: int) -> list[int]:
    """Indices, plus ``offset``, of capitalised matches that begin a new sentence."""
    capitals = [i for i in range(1, len(matches)) if sentence[matches[i].start].isupper()]
    if not capitals or _is_title(sentence, matches):
        return []
    cuts = []
    start = 0
    for i in capitals:
        if _begins_sentence(sentence, matches, start, i):
            cuts.append(i + offset)
            start = i
    return cuts


def _is_title(sentence: str, matches: Sequence[PhraseMatch]) -> bool:
    """Whether all longer words are capitalised: "No Acute Cardiopulmonary Abnormality"."""
    if not matches:
        return True
    tokens = [token for match in matches for token in match.tokens]
    answers = ("yes", "no", "y", "n")
    is_query = any(a.key == "?" and b.key in answers for a, b in itertools.pairwise(matches))
    if (is_query and not sentence.isupper()) or any(t.keys in ((":",), ("=",)) for t in tokens):
        return False  # a form
    texts = [sentence[token.start : token.end] for token in tokens if token.end - token.start > 3]
    return not any(text[0].islower() for text in texts)


def _begins_sentence(sentence: str, matches: Sequence[PhraseMatch], start: int, i: int) -> bool:
    """Whether capitalised match ``i`` begins a sentence; the one before began at ``start``."""
    match, previous = matches[i], matches[i - 1]
    token = match.tokens[0]
    text = sentence[token.start : token.end]
    if not sentence[previous.end : token.start].isspace():
        return False
    has_target = any(m.findings or m.role == "complication" for m in matches[start:i])
    if not has_target or not _can_end_sentence(sentence, matches, i):
        return False
    if text != "A" and not re.fullmatch("[A-Z]?[a-z]+", text):  # PICC, CHF, ET
        return bool(match.findings and (previous.findings or previous.roles))
    if match.findings or match.roles or text.lower() in _SENTENCE_STARTERS:
        return True
    named = (finding for following in matches[i + 1 : i + 4] for finding in following.findings)
    names_finding = any(finding.kind is not FindingKind.IGNORE for finding in named)
    return names_finding and bool(previous.findings or previous.roles)


def _can_end_sentence(sentence: str, matches: Sequence[PhraseMatch], i: int) -> bool:
    """Whether a sentence can end before match ``i``: after a finding, a predicate or a place."""
    match = matches[i - 1]
    if match.findings or match.role in _PREDICATES:
        return True
    before = matches[i - 2] if i > 1 else None
    if match.role and before is not None:
        text = sentence[before.start : before.end]
        if match.role == "side":
            return before.role == "place" or text in _BEFORE_SIDE
        if match.role == "negation" and text in (":", "=", "?") and i > 2:
            # "Effusion: no Pneumothorax: no" answers; "Pleura: no Effusion" continues
            kinds = {finding.kind for finding in matches[i - 3].findings}
            return not kinds.isdisjoint((FindingKind.FINDING, FindingKind.DEVICE))
        return match.role in _SIZES and before.role == "verb"
    text = sentence[match.start : match.end]
    if text.isdigit() and len(text) <= 2 and before is not None:
        return _can_end_sentence(sentence, matches, i - 1)  # "1 No effusion 2 Heart enlarged"
    is_plain_word = text.isalpha() and text[0].islower() and text not in _CANNOT_END_SENTENCE
    return not match.role and is_plain_word
