"""Minimum Bayes risk (MBR) selection of the sentences of a draft.

Each report of the pool is a pseudo-reference: a guess at what the image's own report says, weighted
by how well it fits the image. The draft is the set of candidate sentences with the highest expected
utility against them (Kumar & Byrne, HLT-NAACL 2004), found by greedy addition and then by exchange.
Utility is the mean of CIDEr-D (TF-IDF cosine of n-grams with a length penalty) and ROUGE-L; while a
draft grows, ROUGE-1 and ROUGE-2 stand in for ROUGE-L. Knows words only: what may be stated is
decided before, which sentences are compatible in `rag.drafting.compatibility`.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from rag.drafting.compatibility import (
    MAX_IMPRESSION_SENTENCES,
    POSSIBLY_ACUTE,
    is_compatible,
    summarizes,
)
from rag.drafting.text_similarity import NGRAM_ORDERS, ReferenceNgrams, RougeLScorer, Words
from rag.report_reading import HEADINGS, UsableSentence
from rag.schema import Section

Floats = NDArray[np.float64]

_LENGTH_SIGMA = 6.0
"""Standard deviation of CIDEr-D's Gaussian length penalty, in words."""
_PARTIAL_LENGTH_WEIGHT = 0.02
"""Weight of that penalty while a draft grows: being still short is no fault."""
_MAX_LCS_DRAFTS = 12
_MISSING_FINDING_PENALTY = 0.5
"""For each required finding that is not stated: more than any wording can gain."""
_MAX_SENTENCES = 14
_MAX_EXCHANGE_ROUNDS = 3
_MIN_GAIN = 1e-6


class ExpectedUtility:
    """Expected utility of drafts made of candidate sentences, against weighted pseudo-references.

    Args:
        candidates: sentences of the references; drafts are lists of their indices.
        references: words of each report of the pool.
        ngrams: of the references.
        weights: of the references, sum 1.
    """

    def __init__(
        self,
        candidates: Sequence[UsableSentence],
        references: Sequence[Words],
        ngrams: ReferenceNgrams,
        weights: Floats,
    ) -> None:
        counts = ngrams.count([sentence.words for sentence in candidates])
        used = np.unique(counts.indices)
        orders, reference_counts = ngrams.orders[used], ngrams.counts[:, used]
        squares = ngrams.counts.multiply(ngrams.idf).power(2)
        squared_norms = squares @ np.eye(NGRAM_ORDERS)[ngrams.orders]
        self._by_order = [
            _NgramOverlap(
                counts[:, used[columns]],
                reference_counts[:, columns].toarray().T.copy(),
                ngrams.idf[used[columns]] ** 2,
                np.sqrt(np.maximum(squared_norms[:, order], 1e-12)),
            )
            for order in range(NGRAM_ORDERS)
            for columns in [np.flatnonzero(orders == order)]
        ]
        self._candidates, self._weights = candidates, weights
        self._rouge_l = RougeLScorer(references)
        self._lengths = np.array([len(sentence.words) for sentence in candidates], float)
        self._reference_lengths = np.array([len(words) for words in references], float)

    def score(self, draft: Sequence[int], additions: Sequence[int], *, complete: bool) -> Floats:
        """Expected utility of a draft with each of the additions, and last without any.

        Args:
            draft: indices of its sentences.
            additions: indices of further candidates.
            complete: score them as complete drafts, with ROUGE-L and the full length penalty. Only
                the additions that are best by n-grams are; the others score 0.
        """
        draft, additions = list(draft), list(additions)
        lengths = self._lengths[draft].sum() + np.append(self._lengths[additions], 0.0)
        length_difference = lengths[:, None] - self._reference_lengths
        cosine, rouge_1_and_2 = np.zeros_like(length_difference), np.zeros_like(length_difference)
        for order, overlap in enumerate(self._by_order):
            order_cosine, matches = overlap.measure(draft, additions)
            cosine += order_cosine
            if order < 2:
                rouge_1_and_2 += matches / (lengths[:, None] + self._reference_lengths)
        length_weight = 1.0 if complete else _PARTIAL_LENGTH_WEIGHT
        penalty = np.exp(-length_weight * length_difference**2 / (2 * _LENGTH_SIGMA**2))
        cider = cosine / NGRAM_ORDERS * penalty @ self._weights
        rouge = rouge_1_and_2 @ self._weights
        if not complete:
            return np.asarray(cider + rouge) / 2
        best = np.append(np.argsort(-(cider + rouge)[:-1])[:_MAX_LCS_DRAFTS], len(additions))
        texts = [self._words([*draft, *additions[i : i + 1]]) for i in best]
        utility = np.zeros(len(additions) + 1)
        utility[best] = (cider[best] + self._rouge_l.f1(texts) @ self._weights) / 2
        return utility

    def _words(self, draft: Sequence[int]) -> list[str]:
        ordered = sorted((self._candidates[i] for i in draft), key=_report_order)
        return [word for sentence in ordered for word in sentence.words]


class _NgramOverlap:
    """Overlap of candidate sentences and references in n-grams of one order.

    Args:
        candidates: counts, sparse [candidates, n-grams].
        references: counts, [n-grams, references].
        squared_idf: [n-grams].
        reference_norms: of the references' TF-IDF vectors, [references].
    """

    def __init__(
        self,
        candidates: csr_matrix,
        references: Floats,
        squared_idf: Floats,
        reference_norms: Floats,
    ) -> None:
        self._candidates, self._references = candidates, references
        self._dense_candidates = candidates.toarray()
        self._squared_idf, self._reference_norms = squared_idf, reference_norms
        self._weighted_references = references * squared_idf[:, None]
        self._squared_norms = candidates.power(2) @ squared_idf

    def measure(self, draft: Sequence[int], additions: Sequence[int]) -> tuple[Floats, Floats]:
        """Clipped TF-IDF cosine and clipped matches of a draft with each reference.

        Returns:
            Each float64 [additions + 1, references], the last row without any addition.
        """
        counts = self._dense_candidates[draft].sum(0)
        clipped = np.minimum(counts[:, None], self._references)
        unmatched = (counts[:, None] < self._references).astype(float)
        growth = self._squared_norms + 2 * (self._candidates @ (counts * self._squared_idf))
        norms = np.sqrt(counts**2 @ self._squared_idf + np.append(growth[additions], 0.0) + 1e-9)
        products = self._sum_matches(
            clipped * self._weighted_references, unmatched * self._weighted_references, additions
        )
        cosine = products / (norms[:, None] * self._reference_norms)
        return cosine, self._sum_matches(clipped, unmatched, additions)

    def _sum_matches(self, clipped: Floats, unmatched: Floats, additions: Sequence[int]) -> Floats:
        """Matches of a draft with each addition, which matches what the draft has not matched."""
        matches = clipped.sum(0)
        return np.vstack([matches + (self._candidates @ unmatched)[additions], matches])


def select_sentences(
    candidates: Sequence[UsableSentence],
    utility: ExpectedUtility,
    *,
    required: frozenset[str] = frozenset(),
) -> list[UsableSentence]:
    """The draft with the highest expected utility, in the order of a report.

    No sentence repeats or contradicts another, and the impression mentions only what the findings
    state; if no candidate fits as impression, it repeats the findings that may be acute.

    Args:
        candidates: what may be said.
        utility: of drafts made of these candidates.
        required: findings to be stated if any candidate states them.
    """
    states = np.array(
        [
            [sentence.section is Section.FINDINGS and name in sentence.present for name in required]
            for sentence in candidates
        ],
        bool,
    ).reshape(len(candidates), len(required))

    def score(draft: list[int], additions: list[int], *, complete: bool) -> Floats:
        """Utility with each addition and last without any, less penalties for missing findings."""
        stated = states[draft].any(0)
        missing = np.append((~(states[additions] | stated)).sum(1), (~stated).sum())
        penalty = _MISSING_FINDING_PENALTY * missing
        return utility.score(draft, additions, complete=complete) - penalty

    def extend(draft: list[int], *, complete: bool) -> tuple[list[int], float]:
        """The draft with the best addition, or as it is if none helps; and its score."""
        additions = [i for i in range(len(candidates)) if _is_addable(i, draft, candidates)]
        scores = score(draft, additions, complete=complete)
        best = int(scores.argmax())
        return draft + additions[best : best + 1], float(scores[best])

    draft: list[int] = []
    for _ in range(_MAX_SENTENCES):
        longer, _ = extend(draft, complete=False)
        if longer == draft:
            break
        draft = longer
    for _ in range(_MAX_EXCHANGE_ROUNDS):
        before = set(draft)
        current = float(score(draft, [], complete=True)[-1])
        for index in list(draft):
            exchanged, value = extend(_without(index, draft, candidates), complete=True)
            if value > current + _MIN_GAIN:
                draft, current = exchanged, value
        draft, _ = extend(draft, complete=True)
        if set(draft) == before:
            break
    draft += _best_impression(draft, candidates, utility)
    sentences = sorted((candidates[i] for i in draft), key=_report_order)
    if any(sentence.section is Section.IMPRESSION for sentence in sentences):
        return sentences
    acute = [s for s in sentences if s.present & POSSIBLY_ACUTE and not s.denied]
    repeated = acute[:MAX_IMPRESSION_SENTENCES]
    return [*sentences, *(replace(sentence, section=Section.IMPRESSION) for sentence in repeated)]


def _best_impression(
    draft: list[int], candidates: Sequence[UsableSentence], utility: ExpectedUtility
) -> list[int]:
    """The best impression for a draft that has none, whether or not it adds utility."""
    if any(candidates[i].section is Section.IMPRESSION for i in draft):
        return []
    impressions = [
        i
        for i, sentence in enumerate(candidates)
        if sentence.section is Section.IMPRESSION and _is_addable(i, draft, candidates)
    ]
    if not impressions or not draft:
        return []
    return [impressions[int(utility.score(draft, impressions, complete=True)[:-1].argmax())]]


def _is_addable(index: int, draft: Sequence[int], candidates: Sequence[UsableSentence]) -> bool:
    return index not in draft and is_compatible(candidates[index], [candidates[i] for i in draft])


def _without(index: int, draft: Sequence[int], candidates: Sequence[UsableSentence]) -> list[int]:
    """The draft without a sentence, and without impressions that summarized it."""
    rest = [i for i in draft if i != index]
    sentences = [candidates[i] for i in rest]
    return [
        i
        for i in rest
        if candidates[i].section is Section.FINDINGS or summarizes(candidates[i], sentences)
    ]


def _report_order(sentence: UsableSentence) -> tuple[bool, int, bool]:
    """Sort key: findings by heading, abnormal ones first, then the impression."""
    in_impression = sentence.section is Section.IMPRESSION
    heading = 0 if in_impression else [*HEADINGS, ""].index(sentence.heading)
    return in_impression, heading, not sentence.present
