"""The sentences that a pool of similar reports agrees on: minimum Bayes risk.

Each report of the pool is a guess of what the image's own report says, weighted by how well it
fits. The draft is the set of sentences with the highest expected agreement with such a guess (Kumar
& Byrne, HLT-NAACL 2004), found by adding, exchanging and dropping one sentence at a time. Agreement
is half the cosine of n-grams weighted by rarity, with a penalty for another length (CIDEr-D), half
the longest common subsequence (ROUGE-L); while a draft grows, common n-grams stand in for that.
Knows words; which sentences can stand together is told by `rag.drafting.compatibility`, what may be
said is decided before.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from rag.drafting.compatibility import MAY_BE_ACUTE, MOST_IMPRESSIONS, fits, sums_up
from rag.drafting.text_similarity import ORDERS, NgramPool, Subsequences, Words
from rag.report_reading import HEADINGS, UsableSentence
from rag.schema import Section

Floats = NDArray[np.float64]

_LENGTH_SPREAD = 72.0
"""Twice the variance of the penalty for another length, in words: that of CIDEr-D."""
_BEGUN = 0.02
"""Weight of that penalty while sentences are added: a short draft is not yet a wrong one."""
_WORD_BY_WORD = 12
_MISSING = 0.5
"""What a finding costs that has to be stated and is not: more than any wording can gain."""
_MOST_SENTENCES = 14
_ROUNDS = 3


class Agreement:
    """Expected agreement of drafts that are made of some sentences with a weighted pool.

    Args:
        sentences: of the reports' own.
        reports: words of each report of the pool.
        ngrams: of these reports.
        weights: of the reports; sums to 1.
    """

    def __init__(
        self,
        sentences: Sequence[UsableSentence],
        reports: Sequence[Words],
        ngrams: NgramPool,
        weights: Floats,
    ) -> None:
        counts = ngrams.rows([sentence.words for sentence in sentences])
        known = np.unique(counts.indices)
        order, reports_of = ngrams.orders[known], ngrams.counts[:, known]
        norms = ngrams.counts.multiply(ngrams.rarity).power(2) @ np.eye(ORDERS)[ngrams.orders]
        self._orders = [
            _Order(
                counts[:, known[at]],
                reports_of[:, at].toarray().T.copy(),
                ngrams.rarity[known[at]] ** 2,
                np.sqrt(np.maximum(norms[:, n], 1e-12)),
            )
            for n in range(ORDERS)
            for at in [np.flatnonzero(order == n)]
        ]
        self._sentences, self._in_order = sentences, Subsequences(reports)
        self._weights = weights
        self._lengths = np.array([len(sentence.words) for sentence in sentences], float)
        self._report_lengths = np.array([len(words) for words in reports], float)

    def of(self, chosen: Sequence[int], further: Sequence[int], *, whole: bool) -> Floats:
        """Of the chosen sentences with each of the further ones; last, without any of them.

        Args:
            chosen: numbers of sentences.
            further: numbers of others.
            whole: whether these are whole drafts, to be compared in length and word by word. Only
                the best by n-grams are, the others are worth nothing.
        """
        chosen, added = list(chosen), list(further)
        words = self._lengths[chosen].sum() + np.append(self._lengths[added], 0.0)
        apart = words[:, None] - self._report_lengths
        rare, plain = np.zeros_like(apart), np.zeros_like(apart)
        for n, order in enumerate(self._orders):
            cosine, same = order.overlap(chosen, added)
            rare += cosine
            if n < 2:
                plain += same / (words[:, None] + self._report_lengths)
        near = np.exp(-(1.0 if whole else _BEGUN) * apart**2 / _LENGTH_SPREAD)
        by_rarity, by_words = rare / ORDERS * near @ self._weights, plain @ self._weights
        if not whole:
            return np.asarray(by_rarity + by_words) / 2
        best = np.append(np.argsort(-(by_rarity + by_words)[:-1])[:_WORD_BY_WORD], len(added))
        drafts = [self._text([*chosen, *further[at : at + 1]]) for at in best]
        worth = np.zeros(len(added) + 1)
        worth[best] = (by_rarity[best] + self._in_order.f1(drafts) @ self._weights) / 2
        return worth

    def _text(self, chosen: Sequence[int]) -> list[str]:
        """Words of a draft of these sentences."""
        ordered = sorted((self._sentences[at] for at in chosen), key=_place)
        return [word for sentence in ordered for word in sentence.words]


class _Order:
    """N-grams of one order in sentences and reports.

    Args:
        sentences: counts, [sentences, n-grams].
        reports: counts, [n-grams, reports].
        squared: rarity squared, [n-grams].
        norms: of the reports, their n-grams weighted by rarity, [reports].
    """

    def __init__(
        self, sentences: csr_matrix, reports: Floats, squared: Floats, norms: Floats
    ) -> None:
        self._sentences, self._reports = sentences, reports
        self._counts = sentences.toarray()
        self._squared, self._norms = squared, norms
        self._worth = reports * squared[:, None]
        self._own = sentences.power(2) @ squared

    def overlap(self, chosen: Sequence[int], added: Sequence[int]) -> tuple[Floats, Floats]:
        """Cosine by rarity, and how many are the same, of a draft with each report.

        Returns:
            Each float64 [added + 1, reports], the last row without any added sentence.
        """
        draft = self._counts[chosen].sum(0)
        had = np.minimum(draft[:, None], self._reports)
        new = (draft[:, None] < self._reports).astype(float)
        more = self._own + 2 * (self._sentences @ (draft * self._squared))
        lengths = np.sqrt(draft**2 @ self._squared + np.append(more[added], 0.0) + 1e-9)
        dots = self._shared(had * self._worth, new * self._worth, added)
        return dots / (lengths[:, None] * self._norms), self._shared(had, new, added)

    def _shared(self, had: Floats, new: Floats, added: Sequence[int]) -> Floats:
        """What a draft has of each report, and with each sentence added."""
        now = had.sum(0)
        return np.vstack([now + (self._sentences @ new)[added], now])


def consensus(
    sentences: Sequence[UsableSentence],
    agreement: Agreement,
    *,
    required: frozenset[str] = frozenset(),
) -> list[UsableSentence]:
    """The draft with the highest expected agreement, in the order of a report.

    Nothing in it is said twice or contradicts another sentence, and the impression speaks only of
    what the findings state; where none of the pool's does, it repeats those that may be acute.

    Args:
        sentences: what may be said.
        agreement: of these sentences, in this order.
        required: findings that have to be stated if any sentence does.
    """
    in_findings = [s.present if s.section is Section.FINDINGS else frozenset() for s in sentences]
    states = np.array([[name in found for name in required] for found in in_findings], bool)
    states = states.reshape(len(sentences), len(required))

    def worth(chosen: list[int], further: list[int], *, whole: bool) -> Floats:
        """Of the chosen sentences with each of the further ones; last, as they are."""
        already = states[chosen].any(0)
        missing = np.append((~(states[further] | already)).sum(1), (~already).sum())
        return agreement.of(chosen, further, whole=whole) - _MISSING * missing

    def best(chosen: list[int], *, whole: bool) -> tuple[list[int], float]:
        """The chosen sentences with the one that helps most, or as they are; and their worth."""
        further = [at for at in range(len(sentences)) if _fits(at, chosen, sentences)]
        values = worth(chosen, further, whole=whole)
        at = int(values.argmax())
        return (chosen if at == len(further) else [*chosen, further[at]]), float(values[at])

    chosen: list[int] = []
    for _ in range(_MOST_SENTENCES):
        more, _ = best(chosen, whole=False)
        if more == chosen:
            break
        chosen = more
    for _ in range(_ROUNDS):
        before = set(chosen)
        value = float(worth(chosen, [], whole=True)[-1])
        for number in list(chosen):
            other, new = best(_without(number, chosen, sentences), whole=True)
            if new > value + 1e-6:
                chosen, value = other, new
        chosen, _ = best(chosen, whole=True)
        if set(chosen) == before:
            break
    chosen += _impression(chosen, sentences, agreement)
    draft = sorted((sentences[at] for at in chosen), key=_place)
    if any(sentence.section is Section.IMPRESSION for sentence in draft):
        return draft
    repeated = [s for s in draft if s.present & MAY_BE_ACUTE and not s.denied][:MOST_IMPRESSIONS]
    return [*draft, *(replace(sentence, section=Section.IMPRESSION) for sentence in repeated)]


def _impression(
    chosen: list[int], sentences: Sequence[UsableSentence], agreement: Agreement
) -> list[int]:
    """The best impression for a draft without one, though it gains no agreement by it."""
    if any(sentences[at].section is Section.IMPRESSION for at in chosen):
        return []
    fitting = [
        at
        for at, sentence in enumerate(sentences)
        if sentence.section is Section.IMPRESSION and _fits(at, chosen, sentences)
    ]
    if not fitting or not chosen:
        return []
    return [fitting[int(agreement.of(chosen, fitting, whole=True)[:-1].argmax())]]


def _fits(at: int, chosen: Sequence[int], sentences: Sequence[UsableSentence]) -> bool:
    return at not in chosen and fits(sentences[at], [sentences[i] for i in chosen])


def _without(number: int, chosen: Sequence[int], sentences: Sequence[UsableSentence]) -> list[int]:
    """The chosen sentences without one, and without the impression that rests on it."""
    left = [at for at in chosen if at != number]
    others = [sentences[at] for at in left]
    return [
        at
        for at in left
        if sentences[at].section is Section.FINDINGS or sums_up(sentences[at], others)
    ]


def _place(sentence: UsableSentence) -> tuple[bool, int, bool]:
    headings = [*HEADINGS, ""]
    in_impression = sentence.section is Section.IMPRESSION
    at = 0 if in_impression else headings.index(sentence.heading)
    return in_impression, at, not sentence.present
