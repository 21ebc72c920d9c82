"""The lexicon: phrases of report language and the roles they play in a sentence.

Reads the tables of `rag/report_nlp/data` and searches for their phrases, longest match first. What
a role does to a sentence is in `rag.report_nlp.labeller`.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from encoders.machine import built_once
from rag.report_nlp.sentences import Token, load_toml


class FindingKind(StrEnum):
    """How a finding behaves in a sentence; explained in findings.toml."""

    FINDING = "finding"
    NEUTRAL = "neutral"
    DEVICE = "device"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry of findings.toml, which says what each field means; ``concept`` is never empty."""

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
    """A phrase found in a text.

    Attributes:
        words: its tokens.
        roles: what the phrase is: one cue role, or ``category.value`` of attributes.toml; empty for
            words that the lexicon does not know.
        findings: the findings it names, if it names any.
    """

    words: tuple[Token, ...]
    roles: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def start(self) -> int:
        """Where it begins in the text."""
        return self.words[0].start

    @property
    def end(self) -> int:
        """Where it ends in the text."""
        return self.words[-1].end

    @property
    def role(self) -> str:
        """Its first role; empty where it has none."""
        return self.roles[0] if self.roles else ""

    @property
    def key(self) -> str:
        """Spelling of a single word; empty for most numbers and for several words."""
        keys = self.words[0].keys
        return keys[0] if keys and len(self.words) == 1 else ""


Phrase = tuple[str, ...]


@dataclass(slots=True)
class _Node:
    next: dict[str, "_Node"] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def expand(phrases: Iterable[str]) -> Iterator[Phrase]:
    """Spell out the alternatives of each phrase and cut it into words.

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
    found = []
    for name, entry in load_toml("findings.toml").items():
        phrases = expand(entry.pop("phrases"))
        entry["kind"] = FindingKind(entry.get("kind", "finding"))
        entry.setdefault("concept", name)
        finding = Finding(name=name, **entry)
        found += [(phrase, finding) for phrase in phrases]
    return found


def _cues() -> Iterator[tuple[Phrase, str]]:
    for role, cue in load_toml("cues.toml").items():
        yield from ((phrase, role) for phrase in expand(cue["phrases"]))


def _attributes() -> Iterator[tuple[Phrase, str]]:
    for category, values in load_toml("attributes.toml").items():
        for value, phrases in values.items():
            yield from ((phrase, f"{category}.{value}") for phrase in expand(phrases))


@built_once
def vocabulary() -> tuple[frozenset[str], tuple[str, ...]]:
    """Words of the lexicon, and the stems of those that end in ``*`` (longest first)."""
    entries = itertools.chain(_finding_phrases(), _cues(), _attributes())
    words = {word for phrase, _ in entries for word in phrase}
    stems = {word[:-1] for word in words if word.endswith("*")}
    plain = frozenset(word for word in words if not word.endswith("*"))
    return plain, tuple(sorted(stems, key=lambda stem: (-len(stem), stem)))


@lru_cache(maxsize=3)
def relations(kind: str) -> dict[str, list[str]]:
    """Concept -> those that it "denies", "excludes" or lies "beside": see relations.toml."""
    found: dict[str, list[str]] = load_toml("relations.toml")[kind]
    return found


@built_once
def _sentence_trie() -> _Node:
    return _trie(itertools.chain(_finding_phrases(), _cues()))


@built_once
def _attribute_trie() -> _Node:
    return _trie(_attributes())


def _trie(entries: Iterable[tuple[Phrase, Finding | str]]) -> _Node:
    """All phrases, with the findings they name; with their roles, where they name none."""
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
    """Cut ``tokens`` into findings, cues and other words: every token is in exactly one match."""
    return _match(_sentence_trie(), tokens)


def match_attributes(tokens: Sequence[Token]) -> list[PhraseMatch]:
    """Sides, severities, zones and topics among ``tokens``."""
    return [found for found in _match(_attribute_trie(), tokens) if found.roles]


def _match(root: _Node, tokens: Sequence[Token]) -> list[PhraseMatch]:
    found = []
    at = 0
    while at < len(tokens):
        last, node = _longest(root, tokens, at)
        words = tuple(tokens[at:last])
        found.append(PhraseMatch(words, node.roles, node.findings) if node else PhraseMatch(words))
        at = last
    return found


def _longest(root: _Node, tokens: Sequence[Token], at: int) -> tuple[int, _Node | None]:
    best: tuple[int, _Node | None] = (at + 1, None)
    for key in tokens[at].keys:
        node = root.next.get(key)
        if node is None:
            continue
        if (node.roles or node.findings) and best[1] is None:
            best = (at + 1, node)
        if node.next and at + 1 < len(tokens):
            longer = _longest(node, tokens, at + 1)
            if longer[1] is not None and longer[0] > best[0]:
                best = longer
    return best
