"""What a sentence says besides describing the image: earlier images, advice, hidden words.

Patterns are in `rag/report_nlp/data/non_findings.toml`. A draft for an image without a prior must
not compare, but a sentence copied from another patient's report often does. Mere history ("old
fracture", "status post sternotomy", "chronic") is no comparison.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from rag.report_nlp.tokenizer import PLACEHOLDER, load_toml


def mentions_prior(sentence: str) -> list[tuple[int, int]]:
    """Offsets of the words that speak of an earlier image; empty if there are none.

    >>> [(a, b)] = mentions_prior("Small effusion, unchanged.")
    >>> "Small effusion, unchanged."[a:b]
    'unchanged'
    """
    masks, cues, _ = _patterns()
    text = masks.sub(lambda found: "#" * len(found.group()), _plain(sentence))
    return [found.span() for found in cues.finditer(text)]


def recommends_or_communicates(sentence: str) -> bool:
    """Whether the sentence asks for something ("CT is advised") or reports a conversation."""
    return _patterns()[2].search(_plain(sentence)) is not None


def has_placeholder(sentence: str) -> bool:
    """Whether a de-identification token (XXXX, ___, [**...**]) stands in the sentence."""
    return PLACEHOLDER.search(sentence) is not None


def _plain(sentence: str) -> str:
    """Lower case, one blank for each kind of white space: offsets stay the same."""
    lower = sentence.lower()
    return re.sub(r"\s", " ", lower if len(lower) == len(sentence) else sentence)


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    data = load_toml("non_findings.toml")

    def whole_words(patterns: Iterable[str]) -> re.Pattern[str]:
        joined = "|".join(f"(?:{pattern})" for pattern in patterns)
        for name, words in data["names"].items():
            joined = joined.replace(name, words)
        return re.compile(rf"(?<![\w#])(?:{joined})(?![\w#])")

    prior = data["prior"]
    return (
        whole_words(prior["masks"]),
        whole_words(prior["cues"]),
        whole_words(data["advice"]["cues"]),
    )
