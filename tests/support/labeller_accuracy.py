"""Accuracy of the labeller on manually labelled texts.

``python -m tests.support.labeller_accuracy FILE`` prints a table row for each split of a JSONL file
with ``text``, ``labels`` and perhaps ``split``; 95 % Wilson intervals.
"""
# ruff: noqa: T201

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from eval.metrics.findings import rules_id
from rag.report_nlp.labeller import LABELS, label_text
from rag.report_nlp.scopes import Polarity


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labels of a text by a person and by the labeller."""

    split: str
    truth: dict[str, str]
    found: dict[str, str]


def read_labelled(path: Path) -> list[Labelled]:
    """The texts of a file; unknown labels and states are refused."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        known = row["labels"].keys() <= set(LABELS)
        if not known or not set(row["labels"].values()) <= set(Polarity):
            raise ValueError(f"invalid labels: {row['labels']}")
        found = {label: polarity.value for label, polarity in label_text(row["text"]).items()}
        rows.append(Labelled(row.get("split", ""), row["labels"], found))
    return rows


def table(rows: Sequence[Labelled]) -> Iterator[str]:
    """Texts with all labels right; precision and recall of each state over all labels."""
    states = [polarity.value for polarity in Polarity]
    yield f"Labeller {rules_id()}; every label right; precision, recall of {', '.join(states)}"
    for split in sorted({row.split for row in rows}):
        split_rows = [row for row in rows if row.split == split]
        cells = [_share(sum(row.truth == row.found for row in split_rows), len(split_rows))]
        for state in states:
            hits, predicted, true = _counts(split_rows, state)
            cells.append(f"{_share(hits, predicted)}, {_share(hits, true)}")
        yield f"| {split or 'all'} | {len(split_rows)} | {' | '.join(cells)} |"


def _counts(rows: Sequence[Labelled], state: str) -> tuple[int, int, int]:
    pairs = [(row.truth.get(n) == state, row.found.get(n) == state) for row in rows for n in LABELS]
    true, predicted = (sum(column) for column in zip(*pairs, strict=True))
    return pairs.count((True, True)), predicted, true


def _share(hits: int, count: int) -> str:
    if not count:
        return "-"
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{hits / count:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    print("\n".join(table(read_labelled(parser.parse_args().file))))
