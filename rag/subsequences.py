"""Longest common subsequences of a draft's words with each of many texts, all texts at once.

The bit-parallel recurrence of Hyyrö (2004), with the texts side by side in 64-bit integers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BITS = 64
"""Words of a text that are compared; of longer ones the first."""


class Subsequences:
    """What drafts have in common with some texts, in order.

    Args:
        texts: words of each.
    """

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        self._lengths = np.array([len(text) for text in texts], float)
        self._row: dict[str, int] = {}
        compared = [text[:_BITS] for text in texts]
        rows = [self._row.setdefault(word, len(self._row)) for text in compared for word in text]
        columns = np.repeat(np.arange(len(texts)), [len(text) for text in compared])
        places = np.array([place for text in compared for place in range(len(text))], np.uint64)
        self._where = np.zeros((len(self._row) + 1, len(texts)), np.uint64)
        bits = np.left_shift(np.uint64(1), places)
        np.bitwise_or.at(self._where, (np.array(rows, np.int64), columns), bits)

    def f1(self, drafts: Sequence[Sequence[str]]) -> Floats:
        """ROUGE-L's F1 of each draft with each text: float64 [drafts, texts]."""
        lengths = np.array([len(draft) for draft in drafts], float)
        words = np.full((len(drafts), int(lengths.max(initial=0))), -1)  # a word of no text
        for row, draft in zip(words, drafts, strict=True):
            row[: len(draft)] = [self._row.get(word, -1) for word in draft]
        free = np.full((len(drafts), self._where.shape[1]), np.iinfo(np.uint64).max)
        for column in words.T:
            matched = free & self._where[column]
            free = (free + matched) | (free - matched)
        common = np.bitwise_count(~free).astype(float)
        return np.asarray(2 * common / np.maximum(lengths[:, None] + self._lengths, 1.0))
