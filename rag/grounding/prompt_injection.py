"""Makes a stranger's text safe to show to a language model, and says what was wrong with it.

Retrieved reports are data. Somebody may have put into one what a model takes for orders: tokens of
its chat template, a fake turn, an instruction, characters that no reader sees. Owns what counts as
such (`rag/report_nlp/data/injections.toml`) and its removal. The text of an honest report comes
out exactly as it went in. Knows nothing of prompts.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import Any

from rag.report_nlp.sentences import load_toml, sentence_spans, with_sentences
from rag.schema import ReportRecord


class Suspicion(StrEnum):
    """What does not belong in a report."""

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
    """Take out of ``text`` what would speak to a language model.

    Characters go first, so that nothing can hide behind them; then what stands between two tokens
    or fences; then every sentence that holds a token, a fake speaker, a link or an order. What
    remains is never longer than the original.

    Returns:
        The text, unchanged if nothing was found, and what was removed, in order of removal.
    """
    clean, removed = _plain_characters(text)
    clean, tags = _patterns()[Suspicion.MARKUP].subn(" ", clean)
    removed += [Suspicion.MARKUP] * tags
    for suspicion in (Suspicion.TEMPLATE, Suspicion.FENCE):
        shorter = _cut_between(clean, _patterns()[suspicion])
        removed += [suspicion] if shorter != clean else []
        clean = shorter
    kept, at = [], 0
    for start, end in sentence_spans(clean):
        if found := _suspicion_of(clean, start, end):
            removed.append(found)
            kept.append(clean[at:start])
            at = end
    return ("".join([*kept, clean[at:]]) if removed else text), removed


def screen_report(record: ReportRecord) -> tuple[ReportRecord, tuple[str, ...]]:
    """A report as it may be indexed, and what was found in it, without quoting it.

    An honest report is returned as the same object.
    """
    names = ("findings", "impression", "indication", "comparison")
    clean: dict[str, Any] = {}
    problems = []
    for name in names:
        text, removed = remove_injections(getattr(record, name))
        if removed:
            clean[name] = text
            found = ", ".join(f"{what} ({times})" for what, times in Counter(removed).items())
            problems.append(f"{name}: removed {found}")
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
_PILED = re.compile("(?<=[\u0300-\u036f])[\u0300-\u036f]{2,}")
"""More accents on one letter than any language has."""
_CONFUSABLE = str.maketrans(
    "АВЕЅІЈКМНОРСТХУасеорхуіјѕԁԛԝһΑΒΕΖΗΙΚΜΝΟΡΤΥΧοι",  # noqa: RUF001 - Cyrillic and Greek
    "ABESIJKMHOPCTXYaceopxyijsdqwhABEZHIKMNOPTYXoi",
)


def _plain_characters(text: str) -> tuple[str, list[Suspicion]]:
    if text.isascii() and text.isprintable():
        return text, []
    inspected = [_inspect(character) for character in text]
    found = {suspicion for suspicion, _ in inspected if suspicion}
    clean, piled = _PILED.subn("", "".join(instead for _, instead in inspected))
    found |= {Suspicion.INVISIBLE} if piled else set()
    for word in re.findall(r"\w+", clean):
        if _is_mixed(word):
            found.add(Suspicion.LOOKALIKE)
            clean = clean.replace(word, word.translate(_CONFUSABLE))
    return clean, [suspicion for suspicion in Suspicion if suspicion in found]


def _inspect(character: str) -> tuple[Suspicion | None, str]:
    """What is wrong with a character, and what to put in its place."""
    code, category = ord(character), unicodedata.category(character)
    suspicion, instead = None, character
    if character in "\n\t\r":
        pass
    elif code in _BIDI:
        suspicion, instead = Suspicion.BIDI, ""
    elif code in _INVISIBLE:
        suspicion, instead = Suspicion.INVISIBLE, ""
    elif category in ("Cc", "Co", "Cs", "Cn"):
        suspicion, instead = Suspicion.CONTROL, ""
    elif category in ("Zl", "Zp"):
        suspicion, instead = Suspicion.CONTROL, "\n"
    elif 0xFF01 <= code <= 0xFF5E or 0x1D400 <= code <= 0x1D7FF or 0x24B6 <= code <= 0x24E9:
        suspicion, instead = Suspicion.LOOKALIKE, unicodedata.normalize("NFKC", character)
    return suspicion, instead


def _is_mixed(word: str) -> bool:
    """Whether Latin letters and their Cyrillic or Greek doubles stand in one word."""
    if word.isascii():
        return False
    plain = word.translate(_CONFUSABLE)
    return plain != word and any("a" <= letter.lower() <= "z" for letter in word)


def _cut_between(text: str, pattern: re.Pattern[str]) -> str:
    """Cut from the first token to the last: what stands between them is somebody's message."""
    found = list(pattern.finditer(text))
    if len(found) < 2:
        return text
    start, end = found[0].start(), found[-1].end()
    if not _CLOSING.search(found[-1].group()):
        # The message begins after the token.
        end = next((last for first, last in sentence_spans(text) if first < end <= last), end)
    return f"{text[:start]} {text[end:]}"


_CLOSING = re.compile(r"/|im_end|eot|end_of|endof|eos|^\W+$", re.IGNORECASE)
_SPACED = re.compile(r"\b(?:[A-Za-z][ .\-_*]{1,3}){7,}[A-Za-z]\b")


def _suspicion_of(text: str, start: int, end: int) -> Suspicion | None:
    sentence = " ".join(text[start:end].split())
    if _SPACED.search(sentence):
        return Suspicion.INSTRUCTION  # "I g n o r e"
    for suspicion, pattern in _patterns().items():
        if suspicion is Suspicion.ROLE:
            found = pattern.search(text, start, end) or pattern.search(sentence)
        else:
            found = pattern.search(sentence)
        if found and suspicion is not Suspicion.MARKUP:
            return suspicion
    disguised = _undisguised(sentence)
    if disguised != sentence and _patterns()[Suspicion.INSTRUCTION].search(disguised):
        return Suspicion.INSTRUCTION
    return None


_LEET = str.maketrans("013457@$|øłđ", "oieastasloid")


def _undisguised(sentence: str) -> str:
    """Letters without accents, digits inside words as the letters they stand for."""
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", sentence) if not unicodedata.combining(c)
    )
    mixed = re.compile(r"\w*[A-Za-z][0-9@$|øłđ]\w*|\w*[0-9@$|øłđ][A-Za-z]\w*")
    return mixed.sub(lambda found: found.group().translate(_LEET), plain).replace("-", " ")


@lru_cache(maxsize=1)
def _patterns() -> dict[Suspicion, re.Pattern[str]]:
    data = load_toml("injections.toml")
    return {
        Suspicion[name.upper()]: re.compile("|".join(f"(?:{p})" for p in patterns), re.IGNORECASE)
        for name, patterns in data.items()
    }
