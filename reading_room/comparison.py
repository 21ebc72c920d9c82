"""What a retrieved report shares with the draft, and where the two differ.

Compares statements (`rag.report_nlp.statements`), so that "cardiomegaly" and "the heart is
enlarged" are the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rag.report_nlp.assertion import Polarity
from rag.report_nlp.sentences import sentence_spans
from rag.report_nlp.statements import Statement, read_sentence


@dataclass(frozen=True, slots=True)
class ReportComparison:
    """Findings in words, each once.

    Attributes:
        shared: stated by both.
        opposed: the report contradicts the draft; in the report's words.
        only_here: present in the report, not mentioned in the draft.
        silent: present in the draft, not mentioned in the report.
    """

    shared: tuple[str, ...] = ()
    opposed: tuple[str, ...] = ()
    only_here: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def compare(report: Iterable[str], draft: Iterable[str]) -> ReportComparison:
    """Compare the sentences of a report with those of a draft."""
    here, there = _statements(report), _statements(draft)
    shared, opposed, only_here = [], [], []
    for key, (polarity, words) in here.items():
        other = there.get(key)
        if other is None:
            if polarity is not Polarity.NEGATIVE:
                only_here.append(words)
        elif _agree(polarity, other[0]):
            shared.append(words)
        else:
            opposed.append(words)
    silent = [
        words
        for key, (polarity, words) in there.items()
        if polarity is not Polarity.NEGATIVE and key not in here
    ]
    return ReportComparison(
        *(tuple(dict.fromkeys(each)) for each in (shared, opposed, only_here, silent))
    )


def sentences_of(text: str) -> list[str]:
    """Sentences of a text."""
    return [text[start:end] for start, end in sentence_spans(text)]


def _statements(sentences: Iterable[str]) -> dict[tuple[str, str], tuple[Polarity, str]]:
    """Polarity and words of each concept; where a text disagrees with itself, presence wins."""
    found: dict[tuple[str, str], tuple[Polarity, str]] = {}
    for sentence in sentences:
        for statement in read_sentence(sentence).statements:
            if statement.polarity is None:
                continue
            key = statement.concept, statement.term if statement.terms else ""
            known = found.get(key)
            if known is None or known[0] is Polarity.NEGATIVE:
                found[key] = statement.polarity, _words(sentence, statement)
    return found


def _agree(a: Polarity, b: Polarity) -> bool:
    """Possible and present agree; absent does not."""
    return (a is Polarity.NEGATIVE) == (b is Polarity.NEGATIVE)


def _words(sentence: str, statement: Statement) -> str:
    """As in "right pleural effusion", "no pneumothorax", "possible atelectasis", "lungs normal"."""
    words = sentence[statement.start : statement.end].lower()
    sides = " ".join(sorted(side.value for side in statement.sides))
    if sides and not any(side in words for side in sides.split()):
        words = f"{sides} {words}"
    if statement.neutral:
        return f"{words} {'normal' if statement.polarity is Polarity.NEGATIVE else 'not normal'}"
    before = {Polarity.NEGATIVE: "no ", Polarity.UNCERTAIN: "possible "}
    return before.get(statement.polarity or Polarity.POSITIVE, "") + words
