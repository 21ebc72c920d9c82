"""Is a finding there? Polarity of every finding that a text mentions, and its CheXpert-14 labels.

Rules of negation, hedging, resolution and comparison; `rag.report_nlp.lexicon` says which words
play which role.

A sentence becomes a string of roles, one letter a phrase ("no" n, "effusion" f, "or" o, other
words a dot), and every rule is a regular expression over that string:

    There is no focal consolidation, but pneumonia cannot be excluded.
    m        n  .     f             ;b   f         t    .  X

1. Phrases that together mean something else are rewritten (``t.X``, "cannot be excluded", doubts
   what stands before it).
2. The string is cut into clauses.
3. In each clause cues that look ahead ("no", "may represent") are carried from left to right, then
   cues that look back ("has resolved", "is not excluded") are applied.
4. Neutral mentions ("heart size") take their polarity from an adjective.

The idea of cues with scopes is that of NegEx (Chapman 2001) and ConText (Harkema 2009); what counts
as uncertain follows CheXpert's labeller (Irvin 2019) except where docs/grounding.md says otherwise.
`rag/report_nlp/data/findings.toml` says which words carry which label.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from encoders.report_sections import NON_IMAGE_KINDS, report_parts
from rag.report_nlp.antecedents import (
    may_be_answer,
    resolve_answer,
    resolve_antecedents,
    turns_to_other_side,
)
from rag.report_nlp.clauses import rewrite_roles, split_clauses
from rag.report_nlp.lexicon import Finding, FindingKind, match_phrases
from rag.report_nlp.pieces import UNTICKED, Piece, split_pieces
from rag.report_nlp.roles import role_string
from rag.report_nlp.scopes import Polarity, Scopes
from rag.report_nlp.sentences import sentence_spans, tokenize

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""CheXpert's observations, by its names and in its order (Irvin et al., AAAI 2019)."""

NO_FINDING = LABELS[0]

_RANK = {Polarity.POSITIVE: 2, Polarity.UNCERTAIN: 1, Polarity.NEGATIVE: 0}


@dataclass(frozen=True, slots=True)
class Mention:
    """A finding mentioned at ``sentence[start:end]``.

    Attributes:
        clause: offsets of the clause it stands in.
        stable: the only thing said is that it has not changed ("heart size is stable"), which is
            all that makes it uncertain.
        polarity: None where the text names the finding without saying anything of the image: in
            the indication, in the patient's history, or as a neutral "heart size".
    """

    finding: Finding
    start: int
    end: int
    polarity: Polarity | None
    clause: tuple[int, int]
    stable: bool = False


_LINE = re.compile(r"\n(?=\s*(?:[-*|\u2022]|\(?\d{1,2}[.)])?\s*[A-Z])")

_SHORT_LINE = re.compile(r"(?<![^\n]{50})(?<![,\-])\n")
"""In a text without capitals an item, unless the line is full and was wrapped."""


def find_mentions(text: str) -> list[Mention]:
    """Every finding that ``text`` mentions, in reading order.

    A line that begins with a capital begins a sentence: whole reports put a heading or an item on
    each line and often no full stop.
    """
    pattern = _SHORT_LINE if text.islower() else _LINE
    lines = [0, *(found.end() for found in pattern.finditer(text)), len(text)]
    read: list[tuple[str, Sequence[Mention]]] = []
    for line in (text[first:last] for first, last in itertools.pairwise(lines)):
        for start, end in sentence_spans(line):
            sentence = line[start:end]
            if read and may_be_answer(sentence):
                _answer(sentence, read)
            before = _antecedent(sentence, *read[-1]) if read else None
            read.append((sentence, sentence_mentions(sentence, before)))
    return [mention for _, found in read for mention in found]


def _answer(sentence: str, read: list[tuple[str, Sequence[Mention]]]) -> None:
    """Let a sentence that only answers ("No.") speak for what was asked before it."""
    for at, polarity in resolve_answer(sentence, [earlier for earlier, _ in read]):
        earlier, found = read[at]
        read[at] = (earlier, [replace(mention, polarity=polarity) for mention in found])


def _antecedent(sentence: str, earlier: str, found: Sequence[Mention]) -> Finding | None:
    """What "a small one on the left" stands for, if the sentence before denied it of one side."""
    denied = [m.finding for m in found if m.polarity is Polarity.NEGATIVE and m.finding.label]
    if denied and turns_to_other_side(sentence, earlier):
        return denied[-1]
    return None


@lru_cache(maxsize=16384)  # reports repeat each other's sentences
def sentence_mentions(sentence: str, antecedent: Finding | None = None) -> tuple[Mention, ...]:
    """The findings of one sentence; "a small one" may stand for an earlier one's antecedent."""
    matches = match_phrases(tokenize(sentence))
    if antecedent is None and not any(found.findings for found in matches):
        return ()
    return tuple(
        mention
        for piece in split_pieces(sentence, resolve_antecedents(matches, antecedent))
        for mention in _piece_mentions(sentence, piece)
    )


def _piece_mentions(sentence: str, piece: Piece) -> Iterator[Mention]:
    matches = piece.matches
    roles = rewrite_roles(role_string(sentence, matches))
    parts = split_clauses(roles)
    scopes = Scopes(roles, parts)
    for part in parts:
        clause = (matches[part[0]].start, matches[part[1] - 1].end)
        for at in range(*part):
            found = matches[at]
            for finding in found.findings:
                if finding.kind is not FindingKind.IGNORE:
                    polarity, stable = _polarity(finding, scopes, at, part)
                    if piece.box == UNTICKED:
                        denied = polarity is Polarity.POSITIVE
                        polarity, stable = Polarity.NEGATIVE if denied else None, False
                    yield Mention(finding, found.start, found.end, polarity, clause, stable)


def _polarity(
    finding: Finding, scopes: Scopes, at: int, clause: tuple[int, int]
) -> tuple[Polarity | None, bool]:
    """Polarity of a mention, and whether "stable" is all that is said of it."""
    if finding.kind is FindingKind.NEUTRAL:
        return _neutral_polarity(finding, scopes, at, clause)
    said = scopes.verdict.get(at, Polarity.POSITIVE)
    if said is Polarity.POSITIVE and finding.default:
        return Polarity(finding.default), False
    return said, False


def _neutral_polarity(
    finding: Finding, scopes: Scopes, at: int, clause: tuple[int, int]
) -> tuple[Polarity | None, bool]:
    if not finding.label and scopes.roles[at + 1 : at + 2] in ("f", "d"):
        return None, False  # "large lung nodule": the adjective is the nodule's
    is_place = scopes.is_place(at, clause[0])
    adjective = None if is_place else scopes.adjective(at, clause)
    if adjective is not None:
        return scopes.judged(at, adjective, clause[0]), False
    if finding.default:
        return scopes.reached(at), False
    if not finding.label or is_place:
        return None, False
    if scopes.is_unclear(at, clause):
        return Polarity.UNCERTAIN, False
    unchanged = re.search("[Sj]", scopes.roles[slice(*clause)]) is not None
    return (Polarity.UNCERTAIN if unchanged else None), unchanged


@lru_cache(maxsize=8192)  # an image looks at fifty reports, and many images at the same ones
def label_text(text: str) -> Mapping[str, Polarity]:
    """CheXpert-14 labels of a report or of any part of one.

    Where mentions of one label disagree, positive wins over uncertain and uncertain over negative.
    "No Finding" is positive where nothing but support devices is said to be there, and absent
    otherwise; findings without a label of their own (emphysema, scoliosis, hernia) count too.
    Indication, history, comparison and technique are not read where a heading marks them. Labels
    that the text does not mention are absent.
    """
    if not any(letter.isalpha() for letter in text):
        return {}
    return aggregate_labels(find_mentions(blank_non_image_sections(text)))


def aggregate_labels(found: list[Mention]) -> dict[str, Polarity]:
    """Labels of mentions that were read already."""
    labels: dict[str, Polarity] = {}
    normal = True
    # "Stable" says least, so what else is said of the heart counts first.
    for mention in sorted(found, key=lambda mention: mention.stable):
        label, polarity = mention.finding.label, mention.polarity
        if polarity is None or (mention.stable and label in labels):
            continue
        if label and (label not in labels or _RANK[polarity] > _RANK[labels[label]]):
            labels[label] = polarity
        if polarity is not Polarity.NEGATIVE and label != "Support Devices":
            normal = normal and mention.finding.normal
    if normal:
        labels[NO_FINDING] = Polarity.POSITIVE
    return {name: labels[name] for name in LABELS if name in labels}


def blank_non_image_sections(text: str) -> str:
    """``text`` without headings and the sections that describe no image; offsets stay the same."""
    if ":" not in text:
        return text
    for part in report_parts(text):
        if part.kind in NON_IMAGE_KINDS:
            blank = re.sub(r"\S", " ", text[part.start : part.end])
            text = text[: part.start] + blank + text[part.end :]
        elif part.body - part.start > 1:  # a heading ends what stands before it
            blank = "\n\n".ljust(part.body - part.start)
            text = text[: part.start] + blank + text[part.body :]
    return text
