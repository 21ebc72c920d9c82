"""Removes prompt injections from reports before a language model sees them.

A report may contain what a model takes for instructions: chat-template tokens, a fake turn, an
instruction, invisible characters. Owns what counts as such
(`rag/report_nlp/data/injections.toml`) and its removal. Other text stays exactly as it is.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from rag.report_nlp.lexicon import load_toml
from rag.report_nlp.sentences import sentence_spans, with_sentences
from rag.schema import ReportRecord


class Suspicion(StrEnum):
    """Kinds of text that do not belong in a report."""

    INVISIBLE = "invisible characters"
    BIDI = "characters that reverse the direction of text"
    CONTROL = "control characters"
    LOOKALIKE = "letters that look like others"
    MARKUP = "markup"
    TEMPLATE = "tokens of a chat template"
    FENCE = "a fence"
    ROLE = "a fake speaker"
    LINK = "a link or address"
    BLOB = "encoded data"
    INSTRUCTION = "an instruction to a language model"


def remove_injections(text: str) -> tuple[str, list[Suspicion]]:
    """Remove what is addressed to a language model.

    Suspicious characters go first, so that nothing can hide behind them; then text between two
    tokens or fences; then every sentence with a token, a fake speaker, a link or an instruction.
    The result is never longer than ``text``.

    Returns:
        The text, unchanged if nothing was found, and what was removed, in order of removal.
    """
    clean, removed = _clean_characters(text)
    clean, tags = _patterns()[Suspicion.MARKUP].subn(" ", clean)
    removed += [Suspicion.MARKUP] * tags
    for suspicion in (Suspicion.TEMPLATE, Suspicion.FENCE):
        shorter = _cut_marked_text(clean, _patterns()[suspicion])
        removed += [suspicion] if shorter != clean else []
        clean = shorter
    kept, position = [], 0
    for start, end in sentence_spans(clean):
        if found := _find_suspicion(clean, start, end):
            removed.append(found)
            kept.append(clean[position:start])
            position = end
    return ("".join([*kept, clean[position:]]) if removed else text), removed


def screen_report(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """A report without injections, and what was removed, without quoting it.

    If nothing was found, the same object is returned.
    """
    clean: dict[str, Any] = {}
    problems = []
    for section in ("findings", "impression", "indication", "comparison"):
        text, removed = remove_injections(getattr(record, section))
        if removed:
            clean[section] = text
            kinds = ", ".join(f"{kind} ({count})" for kind, count in Counter(removed).items())
            problems.append(f"{section}: removed {kinds}")
    if not clean:
        return record, ()
    return with_sentences(replace(record, **clean)), tuple(problems)


_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C}
_INVISIBLE = {
    *range(0x200B, 0x200E),
    *range(0x2060, 0x2066),
    *range(0xFE00, 0xFE10),
    *range(0xE0000, 0xE0200),
    *(0x00AD, 0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180E, 0x3164, 0xFEFF, 0xFFA0),
}
_STACKED_ACCENTS = re.compile("(?<=[\u0300-\u036f])[\u0300-\u036f]{2,}")
"""More accents on a letter than any language has."""
_LATIN_LOOKALIKES = str.maketrans(
    "АВЕЅІЈКМНОРСТХУасеорхуіјѕԁԛԝһΑΒΕΖΗΙΚΜΝΟΡΤΥΧοι",  # noqa: RUF001 - Cyrillic and Greek
    "ABESIJKMHOPCTXYaceopxyijsdqwhABEZHIKMNOPTYXoi",
)


def _clean_characters(text: str) -> tuple[str, list[Suspicion]]:
    if text.isascii() and text.isprintable():
        return text, []
    checked = [_check_character(character) for character in text]
    found = {suspicion for suspicion, _ in checked if suspicion}
    clean, stacked = _STACKED_ACCENTS.subn("", "".join(replacement for _, replacement in checked))
    found |= {Suspicion.INVISIBLE} if stacked else set()
    for word in re.findall(r"\w+", clean):
        if _is_mixed_script(word):
            found.add(Suspicion.LOOKALIKE)
            clean = clean.replace(word, word.translate(_LATIN_LOOKALIKES))
    return clean, [suspicion for suspicion in Suspicion if suspicion in found]


def _check_character(character: str) -> tuple[Suspicion | None, str]:
    """What is wrong with a character, and its replacement."""
    code, category = ord(character), unicodedata.category(character)
    suspicion, replacement = None, character
    if character in "\n\t\r":
        pass
    elif code in _BIDI:
        suspicion, replacement = Suspicion.BIDI, ""
    elif code in _INVISIBLE:
        suspicion, replacement = Suspicion.INVISIBLE, ""
    elif category in ("Cc", "Co", "Cs", "Cn"):
        suspicion, replacement = Suspicion.CONTROL, ""
    elif category in ("Zl", "Zp"):
        suspicion, replacement = Suspicion.CONTROL, "\n"
    elif 0xFF01 <= code <= 0xFF5E or 0x1D400 <= code <= 0x1D7FF or 0x24B6 <= code <= 0x24E9:
        suspicion, replacement = Suspicion.LOOKALIKE, unicodedata.normalize("NFKC", character)
    return suspicion, replacement


def _is_mixed_script(word: str) -> bool:
    """Whether a word mixes Latin letters with Cyrillic or Greek lookalikes."""
    if word.isascii():
        return False
    plain = word.translate(_LATIN_LOOKALIKES)
    return plain != word and any("a" <= letter.lower() <= "z" for letter in word)


def _cut_marked_text(text: str, pattern: re.Pattern[str]) -> str:
    """Cut from the first token to the last, with all text between them."""
    tokens = list(pattern.finditer(text))
    if len(tokens) < 2:
        return text
    start, end = tokens[0].start(), tokens[-1].end()
    if not _CLOSING_TOKEN.search(tokens[-1].group()):
        # an opening token: its sentence goes too
        end = next((stop for first, stop in sentence_spans(text) if first < end <= stop), end)
    return f"{text[:start]} {text[end:]}"


_CLOSING_TOKEN = re.compile(r"/|im_end|eot|end_of|endof|eos|^\W+$", re.IGNORECASE)
_SPACED_LETTERS = re.compile(r"\b(?:[A-Za-z][ .\-_*]{1,3}){7,}[A-Za-z]\b")


def _find_suspicion(text: str, start: int, end: int) -> Suspicion | None:
    sentence = " ".join(text[start:end].split())
    if _SPACED_LETTERS.search(sentence):
        return Suspicion.INSTRUCTION  # "I g n o r e"
    for suspicion, pattern in _patterns().items():
        if suspicion is Suspicion.ROLE:
            found = pattern.search(text, start, end) or pattern.search(sentence)
        else:
            found = pattern.search(sentence)
        if found and suspicion is not Suspicion.MARKUP:
            return suspicion
    plain = _undo_leetspeak(sentence)
    if plain != sentence and _patterns()[Suspicion.INSTRUCTION].search(plain):
        return Suspicion.INSTRUCTION
    return None


_LEET = str.maketrans("013457@$|øłđ", "oieastasloid")


def _undo_leetspeak(sentence: str) -> str:
    """Remove accents, and replace digits within words by the letters they stand for."""
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", sentence) if not unicodedata.combining(c)
    )
    mixed = re.compile(r"\w*[A-Za-z][0-9@$|øłđ]\w*|\w*[0-9@$|øłđ][A-Za-z]\w*")
    return mixed.sub(lambda match: match.group().translate(_LEET), plain).replace("-", " ")


@lru_cache(maxsize=1)
def _patterns() -> dict[Suspicion, re.Pattern[str]]:
    data = load_toml("injections.toml")
    return {
        Suspicion[name.upper()]: re.compile("|".join(f"(?:{p})" for p in patterns), re.IGNORECASE)
        for name, patterns in data.items()
    }
