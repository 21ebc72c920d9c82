"""Polarity of every finding that a text mentions, and CheXpert-14 labels of a text.

Rules of negation, hedging, resolution and comparison; `rag.report_nlp.lexicon` says which words
are cues.

A sentence becomes a string of roles, one letter per phrase ("no" n, "effusion" f, "or" o, other
words a dot), and every rule is a regular expression over that string:

    There is no focal consolidation, but pneumonia cannot be excluded.
    m        n  .     f             ;b   f         t    .  X

1. Cues that mean something else together are rewritten (``t.X``, "cannot be excluded", hedges what
   precedes it).
2. The string is split into clauses.
3. In each clause forward cues ("no", "may represent") are applied from left to right, then backward
   cues ("has resolved", "is not excluded").
4. Neutral mentions ("heart size") take their polarity from an adjective.

Cues and scopes follow NegEx (Chapman 2001) and ConText (Harkema 2009); what counts as uncertain
follows CheXpert's labeller (Irvin 2019) except as docs/grounding.md says.
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
        polarity: None if nothing is said of the image: history, a question, or "heart size" alone.
        clause: offsets of the clause it is in.
        only_stable: uncertain only because all that is said is that it has not changed ("heart
            size is stable").
    """

    finding: Finding
    start: int
    end: int
    polarity: Polarity | None
    clause: tuple[int, int]
    only_stable: bool = False


_LINE_BREAK = re.compile(r"\n(?=\s*(?:[-*|\u2022]|\(?\d{1,2}[.)])?\s*[A-Z])")

_SHORT_LINE_BREAK = re.compile(r"(?<![^\n]{50})(?<![,\-])\n")
"""For texts without capitals: the end of a line that is too short to have been wrapped."""


def find_mentions(text: str) -> list[Mention]:
    """Every finding that ``text`` mentions, in reading order.

    A line that begins with a capital begins a sentence, since many reports put a heading or an item
    on each line without a full stop. Spans are offsets in the sentence.
    """
    pattern = _SHORT_LINE_BREAK if text.islower() else _LINE_BREAK
    cuts = [0, *(match.end() for match in pattern.finditer(text)), len(text)]
    sentences: list[tuple[str, Sequence[Mention]]] = []
    for line in (text[start:end] for start, end in itertools.pairwise(cuts)):
        for start, end in sentence_spans(line):
            sentence = line[start:end]
            if sentences and may_be_answer(sentence):
                _apply_answer(sentence, sentences)
            antecedent = _find_antecedent(sentence, *sentences[-1]) if sentences else None
            sentences.append((sentence, sentence_mentions(sentence, antecedent)))
    return [mention for _, mentions in sentences for mention in mentions]


def _apply_answer(sentence: str, sentences: list[tuple[str, Sequence[Mention]]]) -> None:
    """Give the polarity of an answer ("No.") to what the sentences before it mention."""
    for i, polarity in resolve_answer(sentence, [earlier for earlier, _ in sentences]):
        earlier, mentions = sentences[i]
        sentences[i] = (earlier, [replace(mention, polarity=polarity) for mention in mentions])


def _find_antecedent(sentence: str, earlier: str, mentions: Sequence[Mention]) -> Finding | None:
    """The antecedent of "a small one on the left": what the sentence before denied of one side."""
    denied = [m.finding for m in mentions if m.polarity is Polarity.NEGATIVE and m.finding.label]
    return denied[-1] if denied and turns_to_other_side(sentence, earlier) else None


@lru_cache(maxsize=16384)  # reports repeat each other's sentences
def sentence_mentions(sentence: str, antecedent: Finding | None = None) -> tuple[Mention, ...]:
    """Findings that a sentence mentions; a pronoun may stand for an ``antecedent`` before it."""
    matches = match_phrases(tokenize(sentence))
    if antecedent is None and not any(match.findings for match in matches):
        return ()
    return tuple(
        mention
        for piece in split_pieces(sentence, resolve_antecedents(matches, antecedent))
        for mention in _piece_mentions(sentence, piece)
    )


def _piece_mentions(sentence: str, piece: Piece) -> Iterator[Mention]:
    matches = piece.matches
    roles = rewrite_roles(role_string(sentence, matches))
    clauses = split_clauses(roles)
    scopes = Scopes(roles, clauses)
    for clause in clauses:
        span = (matches[clause[0]].start, matches[clause[1] - 1].end)
        for i in range(*clause):
            match = matches[i]
            for finding in match.findings:
                if finding.kind is not FindingKind.IGNORE:
                    polarity, only_stable = _polarity(finding, scopes, i, clause)
                    if piece.box == UNTICKED:
                        denied = polarity is Polarity.POSITIVE
                        polarity, only_stable = Polarity.NEGATIVE if denied else None, False
                    yield Mention(finding, match.start, match.end, polarity, span, only_stable)


def _polarity(
    finding: Finding, scopes: Scopes, i: int, clause: tuple[int, int]
) -> tuple[Polarity | None, bool]:
    """Polarity of mention ``i``, and whether "stable" is all that is said of it."""
    if finding.kind is FindingKind.NEUTRAL:
        return _neutral_polarity(finding, scopes, i, clause)
    polarity = scopes.polarity.get(i, Polarity.POSITIVE)
    if polarity is Polarity.POSITIVE and finding.default:
        return Polarity(finding.default), False
    return polarity, False


def _neutral_polarity(
    finding: Finding, scopes: Scopes, i: int, clause: tuple[int, int]
) -> tuple[Polarity | None, bool]:
    if not finding.label and scopes.roles[i + 1 : i + 2] in ("f", "d"):
        return None, False  # "large lung nodule": the adjective is the nodule's
    is_place = scopes.is_place(i, clause[0])
    adjective = None if is_place else scopes.find_adjective(i, clause)
    if adjective is not None:
        return scopes.adjective_polarity(i, adjective, clause[0]), False
    if finding.default:
        return scopes.state_polarity(i), False
    if not finding.label or is_place:
        return None, False
    if scopes.is_unclear(i, clause):
        return Polarity.UNCERTAIN, False
    unchanged = re.search("[Sj]", scopes.roles[slice(*clause)]) is not None
    return (Polarity.UNCERTAIN if unchanged else None), unchanged


@lru_cache(maxsize=8192)  # images retrieve some fifty reports each, often the same ones
def label_text(text: str) -> Mapping[str, Polarity]:
    """CheXpert-14 labels that a report, or a part of one, mentions.

    Where mentions of one label disagree, positive wins over uncertain and uncertain over negative.
    "No Finding" is positive if nothing but support devices is stated, and absent otherwise;
    findings without a label (emphysema, scoliosis, hernia) exclude it too. Sections headed as
    indication, history, comparison or technique are ignored.
    """
    if not any(letter.isalpha() for letter in text):
        return {}
    return aggregate_labels(find_mentions(blank_non_image_sections(text)))


def aggregate_labels(mentions: list[Mention]) -> dict[str, Polarity]:
    """Labels of a text's mentions, as `label_text` describes them."""
    labels: dict[str, Polarity] = {}
    normal = True
    # "Stable" yields to anything else that is said of the heart.
    for mention in sorted(mentions, key=lambda mention: mention.only_stable):
        label, polarity = mention.finding.label, mention.polarity
        if polarity is None or (mention.only_stable and label in labels):
            continue
        if label and (label not in labels or _RANK[polarity] > _RANK[labels[label]]):
            labels[label] = polarity
        if polarity is not Polarity.NEGATIVE and label != "Support Devices":
            normal = normal and mention.finding.normal
    if normal:
        labels[NO_FINDING] = Polarity.POSITIVE
    return {name: labels[name] for name in LABELS if name in labels}


def blank_non_image_sections(text: str) -> str:
    """Overwrite headings, and sections that do not describe the image; offsets stay the same."""
    if ":" not in text:
        return text
    for part in report_parts(text):
        if part.kind in NON_IMAGE_KINDS:
            blank = re.sub(r"\S", " ", text[part.start : part.end])
            text = text[: part.start] + blank + text[part.end :]
        elif part.body - part.start > 1:  # a heading ends the sentence before it
            blank = "\n\n".ljust(part.body - part.start)
            text = text[: part.start] + blank + text[part.body :]
    return text
