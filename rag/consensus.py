"""The sentences that a pool of similar reports agrees on: minimum Bayes risk.

Each report of the pool is a guess of what the image's own report says, weighted by how well it
fits. The draft is the set of sentences with the highest expected agreement with such a guess (Kumar
& Byrne, HLT-NAACL 2004), found by adding, exchanging and dropping one sentence at a time. Agreement
is the overlap of word n-grams, half weighted by rarity with a penalty for another length, half
plain. Knows words and sets of findings; what may be said is decided before.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rag.report_reading import HEADINGS, UsableSentence
from rag.schema import Section

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Gram = tuple[str, ...]
Floats = NDArray[np.float64]

_ORDERS = 4
_LENGTH_SPREAD = 72.0
"""Twice the variance of the penalty for another length, in words: that of CIDEr-D."""
_MISSING = 0.5
"""What a finding costs that has to be stated and is not: more than any wording can gain."""
_MOST_SENTENCES = 14
_MOST_IMPRESSIONS = 2
_ROUNDS = 3


@lru_cache(maxsize=30_000)
def grams_of(words: tuple[str, ...]) -> dict[Gram, int]:
    """How often each n-gram of one to four words is there."""
    grams = (zip(*(words[at:] for at in range(n)), strict=False) for n in range(1, _ORDERS + 1))
    return Counter(chain.from_iterable(grams))


class Agreement:
    """Expected agreement of drafts that are made of some sentences with a weighted pool.

    Args:
        sentences: words of each sentence.
        reports: words of each report of the pool.
        weights: of the reports; sums to 1.
    """

    def __init__(
        self,
        sentences: Sequence[tuple[str, ...]],
        reports: Sequence[tuple[str, ...]],
        weights: Floats,
    ) -> None:
        spread = Counter(chain.from_iterable(map(grams_of, reports)))
        known = {
            g: i for i, g in enumerate(dict.fromkeys(chain.from_iterable(map(grams_of, sentences))))
        }
        order = np.array([len(gram) - 1 for gram in known], int)
        rarity = {g: math.log(len(reports) / n) for g, n in spread.items()}
        self._weights = weights
        self._lengths = np.array([len(words) for words in sentences], float)
        self._report_lengths = np.array([len(words) for words in reports], float)
        norms = np.array([_norms(grams_of(words), rarity) for words in reports]).T
        counts, inside = _counts(sentences, known), _counts(reports, known).toarray()
        squared = np.array([rarity.get(gram, math.log(len(reports))) ** 2 for gram in known])
        self._orders = [
            (counts[:, at].tocsr(), inside[:, at], squared[at], norms[n])
            for n in range(_ORDERS)
            for at in [np.flatnonzero(order == n)]
        ]

    def of(self, chosen: Sequence[int], further: Sequence[int], *, length: float) -> Floats:
        """Of the chosen sentences with each of the further ones; last, without any of them.

        Args:
            chosen: numbers of sentences.
            further: numbers of others.
            length: weight of the penalty for another length.
        """
        chosen, added = list(chosen), list(further)
        words = self._lengths[chosen].sum() + np.append(self._lengths[added], 0.0)
        apart = words[:, None] - self._report_lengths
        near = np.exp(-length * apart**2 / _LENGTH_SPREAD)
        rare, plain = np.zeros_like(near), np.zeros_like(near)
        for n, (counts, reports, squared, norms) in enumerate(self._orders):
            draft = np.asarray(counts[chosen].sum(0)).ravel()
            more, left = counts[added], reports > draft
            dots = (np.minimum(draft, reports) * reports * squared).sum(1)
            dots = dots + _with_none(more @ (left * reports * squared).T)
            own = np.asarray(more.multiply(squared).sum(1)).ravel() + 2 * (more @ (draft * squared))
            square = (draft**2 * squared).sum() + np.append(own, 0.0)
            rare += dots / (np.sqrt(np.maximum(square, 1e-9))[:, None] * norms)
            if n < 2:
                same = np.minimum(draft, reports).sum(1) + _with_none(more @ left.T.astype(float))
                plain += same / np.maximum(words[:, None] + self._report_lengths, 1.0)
        return np.asarray((rare / _ORDERS * near + plain) @ self._weights / 2)


def consensus(
    sentences: Sequence[UsableSentence],
    agreement: Agreement,
    *,
    required: frozenset[str] = frozenset(),
) -> list[UsableSentence]:
    """The draft with the highest expected agreement, in the order of a report.

    Nothing in it is said twice or contradicts another sentence, and the impression speaks only of
    what the findings state.

    Args:
        sentences: what may be said.
        agreement: of these sentences, in this order.
        required: findings that have to be stated if any sentence does.
    """
    states = np.array([[name in s.present for name in sorted(required)] for s in sentences], bool)
    states = states.reshape(len(sentences), len(required))
    states &= np.array([[s.section is Section.FINDINGS] for s in sentences], bool).reshape(-1, 1)

    def best(chosen: list[int], length: float) -> tuple[list[int], float]:
        """The chosen sentences with the one that helps most, or as they are; and their worth."""
        further = [at for at in range(len(sentences)) if _fits(at, chosen, sentences)]
        worth = agreement.of(chosen, further, length=length)
        already = states[chosen].any(0)
        missing = np.append((~(states[further] | already)).sum(1), (~already).sum())
        worth = worth - _MISSING * missing
        at = int(worth.argmax())
        return (chosen if at == len(further) else [*chosen, further[at]]), float(worth[at])

    chosen: list[int] = []
    for _ in range(_MOST_SENTENCES):
        more, worth = best(chosen, 0.02)  # a short draft is not yet a wrong one
        if more == chosen:
            break
        chosen = more
    for _ in range(_ROUNDS):
        before = set(chosen)
        worth = _worth(chosen, agreement, states)
        for number in list(chosen):
            other, value = best(_without(number, chosen, sentences), 1.0)
            if value > worth + 1e-6:
                chosen, worth = other, value
        chosen, _ = best(chosen, 1.0)
        if set(chosen) == before:
            break
    return sorted((sentences[at] for at in chosen), key=_place)


def _worth(chosen: list[int], agreement: Agreement, states: NDArray[np.bool_]) -> float:
    missing = (~states[chosen].any(0)).sum()
    return float(agreement.of(chosen, (), length=1.0)[-1] - _MISSING * missing)


def _fits(at: int, chosen: Sequence[int], sentences: Sequence[UsableSentence]) -> bool:
    """Whether a sentence can stand beside those chosen."""
    new, others = sentences[at], [sentences[i] for i in chosen if i != at]
    if at in chosen or any(_clash(new, other) for other in others):
        return False
    beside = [other for other in others if other.section is new.section]
    if any(new.denied & o.denied or new.present & o.present for o in beside):
        return False
    if new.section is Section.FINDINGS:
        return True
    stated = {name for o in others if o.section is Section.FINDINGS for name in o.present}
    if len(beside) >= _MOST_IMPRESSIONS or not new.present <= stated:
        return False
    # What is normal is said in the findings; the impression sums up, once.
    sums_up = not new.heading or "abnormality" in new.denied
    return bool(new.present) or (sums_up and all(other.present for other in beside))


def _clash(a: UsableSentence, b: UsableSentence) -> bool:
    return bool(a.present & b.excluded or b.present & a.excluded)


def _without(number: int, chosen: Sequence[int], sentences: Sequence[UsableSentence]) -> list[int]:
    """The chosen sentences without one, and without the impression that rests on it."""
    left = [at for at in chosen if at != number]
    stated = {
        name
        for at in left
        if sentences[at].section is Section.FINDINGS
        for name in sentences[at].present
    }
    return [
        at
        for at in left
        if sentences[at].section is Section.FINDINGS or sentences[at].present <= stated
    ]


def _place(sentence: UsableSentence) -> tuple[bool, int, bool]:
    headings = [*HEADINGS, ""]
    in_impression = sentence.section is Section.IMPRESSION
    at = 0 if in_impression else headings.index(sentence.heading)
    return in_impression, at, not sentence.present


def _counts(texts: Sequence[tuple[str, ...]], known: dict[Gram, int]) -> "csr_matrix":
    """How often each known n-gram is in each text: float64 [texts, n-grams]."""
    from scipy.sparse import csr_matrix  # noqa: PLC0415 - a query by text needs no scipy

    cells = [
        (row, known[gram], count)
        for row, words in enumerate(texts)
        for gram, count in grams_of(words).items()
        if gram in known
    ]
    rows, columns, values = zip(*cells, strict=True) if cells else ((), (), ())
    return csr_matrix((values, (rows, columns)), shape=(len(texts), len(known)), dtype=float)


def _norms(grams: dict[Gram, int], rarity: dict[Gram, float]) -> list[float]:
    """Length of the vector of each order."""
    squares = [1e-12] * _ORDERS
    for gram, count in grams.items():
        squares[len(gram) - 1] += (count * rarity[gram]) ** 2
    return [math.sqrt(square) for square in squares]


def _with_none(rows: NDArray[np.float64]) -> Floats:
    return np.vstack([rows, np.zeros(rows.shape[1])])
