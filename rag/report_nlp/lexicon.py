"""The lexicon: phrases of report language with the findings, cues and attributes they stand for.

Reads the tables of `rag/report_nlp/data` and finds their phrases among a sentence's tokens, longest
match first. What a cue does to a sentence is in `rag.report_nlp.labeller`.
"""

import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from typing import Any

from encoders.machine import built_once


def load_toml(name: str) -> dict[str, Any]:
    """A file of ``rag/report_nlp/data``."""
    path = files("rag.report_nlp").joinpath("data", name)
    return tomllib.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or mark: ``text[start:end]``.

    Attributes:
        keys: lexicon keys, the likeliest first; empty for numbers other than 0 and 1.
    """

    keys: tuple[str, ...]
    start: int
    end: int


class FindingKind(StrEnum):
    """How a finding is read; explained in findings.toml."""

    FINDING = "finding"
    NEUTRAL = "neutral"
    DEVICE = "device"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry of findings.toml, which documents the fields; ``concept`` is never empty."""

    name: str
    topic: str
    label: str = ""
    kind: FindingKind = FindingKind.FINDING
    default: str = ""
    normal: bool = False
    concept: str = ""
    terms: str = ""


@dataclass(frozen=True, slots=True)
class PhraseMatch:
    """A phrase found in a sentence.

    Attributes:
        tokens: at least one.
        roles: one role of cues.toml, or ``category.value`` of attributes.toml; empty for findings
            and for words that are not in the lexicon.
        findings: the findings that the phrase names.
    """

    tokens: tuple[Token, ...]
    roles: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def start(self) -> int:
        """Offset of its first character in the sentence."""
        return self.tokens[0].start

    @property
    def end(self) -> int:
        """Offset behind its last character."""
        return self.tokens[-1].end

    @property
    def role(self) -> str:
        """Its first role; empty if it has none."""
        return self.roles[0] if self.roles else ""

    @property
    def key(self) -> str:
        """Likeliest lexicon key of a single token; empty for phrases and most numbers."""
        keys = self.tokens[0].keys
        return keys[0] if keys and len(self.tokens) == 1 else ""


Phrase = tuple[str, ...]


@dataclass(slots=True)
class _Node:
    next: dict[str, "_Node"] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def expand(phrases: Iterable[str]) -> Iterator[Phrase]:
    """Expand the alternatives of each phrase and split it into words.

    >>> list(expand(["{pleural|} fluid"]))
    [('pleural', 'fluid'), ('fluid',)]
    """
    for phrase in phrases:
        parts = re.split(r"\{(.*?)\}", phrase)
        choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
        for choice in itertools.product(*choices):
            yield tuple("".join(choice).split())


@built_once
def findings() -> tuple[Finding, ...]:
    """All findings, in the order of findings.toml."""
    return tuple(dict.fromkeys(finding for _, finding in _finding_phrases()))


@built_once
def _finding_phrases() -> list[tuple[Phrase, Finding]]:
    entries = []
    for name, fields in load_toml("findings.toml").items():
        phrases = expand(fields.pop("phrases"))
        fields["kind"] = FindingKind(fields.get("kind", "finding"))
        fields.setdefault("concept", name)
        finding = Finding(name=name, **fields)
        entries += [(phrase, finding) for phrase in phrases]
    return entries


def _cue_phrases() -> Iterator[tuple[Phrase, str]]:
    for role, cue in load_toml("cues.toml").items():
        yield from ((phrase, role) for phrase in expand(cue["phrases"]))


def _attribute_phrases() -> Iterator[tuple[Phrase, str]]:
    for category, values in load_toml("attributes.toml").items():
        for value, phrases in values.items():
            yield from ((phrase, f"{category}.{value}") for phrase in expand(phrases))


@built_once
def vocabulary() -> tuple[frozenset[str], tuple[str, ...]]:
    """Words of the lexicon, and the stems of those that end in ``*``, longest first."""
    entries = itertools.chain(_finding_phrases(), _cue_phrases(), _attribute_phrases())
    words = {word for phrase, _ in entries for word in phrase}
    stems = {word[:-1] for word in words if word.endswith("*")}
    plain = frozenset(word for word in words if not word.endswith("*"))
    return plain, tuple(sorted(stems, key=lambda stem: (-len(stem), stem)))


@lru_cache(maxsize=3)
def relations(kind: str) -> dict[str, list[str]]:
    """Concept -> concepts that it "denies", "excludes" or lies "beside"; see relations.toml."""
    related: dict[str, list[str]] = load_toml("relations.toml")[kind]
    return related


@built_once
def _sentence_trie() -> _Node:
    return _build_trie(itertools.chain(_finding_phrases(), _cue_phrases()))


@built_once
def _attribute_trie() -> _Node:
    return _build_trie(_attribute_phrases())


def _build_trie(entries: Iterable[tuple[Phrase, Finding | str]]) -> _Node:
    """A phrase that names a finding has no other role."""
    root = _Node()
    for phrase, meaning in entries:
        node = root
        for word in phrase:
            if word not in node.next:
                node.next[word] = _Node()
            node = node.next[word]
        if isinstance(meaning, Finding):
            node.findings = (*(f for f in node.findings if f is not meaning), meaning)
        elif not node.findings:
            node.roles = (*node.roles, meaning)
    return root


def match_phrases(tokens: Sequence[Token]) -> list[PhraseMatch]:
    """Findings, cues and other words: every token is in exactly one match."""
    return _match(_sentence_trie(), tokens)


def match_attributes(tokens: Sequence[Token]) -> list[PhraseMatch]:
    """Sides, severities, zones and topics among ``tokens``."""
    return [match for match in _match(_attribute_trie(), tokens) if match.roles]


def _match(root: _Node, tokens: Sequence[Token]) -> list[PhraseMatch]:
    matches = []
    start = 0
    while start < len(tokens):
        end, node = _longest_match(root, tokens, start)
        phrase = tuple(tokens[start:end])
        found = PhraseMatch(phrase, node.roles, node.findings) if node else PhraseMatch(phrase)
        matches.append(found)
        start = end
    return matches


def _longest_match(root: _Node, tokens: Sequence[Token], start: int) -> tuple[int, _Node | None]:
    best: tuple[int, _Node | None] = (start + 1, None)
    for key in tokens[start].keys:
        node = root.next.get(key)
        if node is None:
            continue
        if (node.roles or node.findings) and best[1] is None:
            best = (start + 1, node)
        if node.next and start + 1 < len(tokens):
            longer = _longest_match(node, tokens, start + 1)
            if longer[1] is not None and longer[0] > best[0]:
                best = longer
    return best
