"""What a language model writes instead of a draft: refusals, loops, another language.

Judges text alone. Knows no schema (`rag.drafting` does) and no evidence beyond its words; whether a
sentence is true of the evidence is for `rag.grounding`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from rag.errors import LlmLanguageError, LlmLoopError, LlmRefusalError
from rag.report_nlp.lexicon import vocabulary

MOST_COPIES = 2
"""A report may say a thing in the findings and again in the impression, but not three times."""

LEAST_KNOWN_WORDS = 0.5
"""Share of a draft's words that the lexicon or the evidence knows."""

_REFUSAL = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|i(?:'m| am)? (?:sorry|apologi[sz]e|cannot|can't|can not|could not|am unable|unable|won't)\b"
    r"|(?:please )?consult (?:a|your|with a) (?:doctor|physician|radiologist|qualified)\b"
    r"|not (?:able|allowed|permitted) to (?:provide|give|make|interpret|assist|diagnose)\b"
    r"|(?:i|we) (?:must|have to) decline\b)",
    re.IGNORECASE,
)
_LOOP_AT_END = re.compile(r"(\S.{2,120}?)\1{4,}\S{0,120}\s*$|\s{40,}$", re.DOTALL)
_LETTERS = re.compile(r"[^\W\d_]+")


def validate(texts: Sequence[str], *, evidence: Iterable[str]) -> None:
    """Raise what is wrong with sentences that a model wrote, if they are no draft at all.

    Args:
        texts: the sentences of the answer.
        evidence: the reports the model was shown.

    Raises:
        LlmRefusalError: a sentence apologises, or sends the reader to a doctor.
        LlmLoopError: a sentence comes more than `MOST_COPIES` times.
        LlmLanguageError: fewer than `LEAST_KNOWN_WORDS` of the words are the lexicon's or the
            evidence's.
    """
    for text in texts:
        if refusal := _REFUSAL.search(text):
            raise LlmRefusalError(
                f"the model declined ({refusal.group()!r}); another model, or a template that says "
                "more plainly that a radiologist will check the draft, may help"
            )
    copies = Counter(" ".join(text.casefold().split()) for text in texts)
    if copies and (most := max(copies.values())) > MOST_COPIES:
        raise LlmLoopError(f"the model wrote one sentence {most} times; {_LOOP_CURE}")
    words = [word for text in texts for word in _words(text)]
    known = vocabulary()[0].union(*(_words(text) for text in evidence))
    share = sum(word in known for word in words) / len(words) if words else 1.0
    if share < LEAST_KNOWN_WORDS:
        raise LlmLanguageError(
            f"only {share:.0%} of the words are the evidence's or a radiologist's English; set "
            "another llm.model, or index reports in the language it writes"
        )


def is_degenerate(text: str) -> bool:
    """Whether an answer that was cut off ends in the same few words again and again, or blanks."""
    return _LOOP_AT_END.search(text[-2000:]) is not None


def degenerate_error(model: str) -> LlmLoopError:
    """For an answer that says the same over and over."""
    return LlmLoopError(f"{model} repeats itself until it is cut off; {_LOOP_CURE}")


def is_refusal(text: str) -> bool:
    """Whether an answer that is not even JSON is a refusal in plain words."""
    return _REFUSAL.search(text) is not None


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _LETTERS.findall(text)]


_LOOP_CURE = "set a larger llm.model, or llm.template = select_v1, which cannot loop"
