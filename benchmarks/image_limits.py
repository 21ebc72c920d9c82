"""When the image's labels may contradict a sentence: the limits of `check_draft` on val.

    python benchmarks/image_limits.py OUT/predictions.jsonl [--data FOLDER]

Takes predictions that hold the label head's probabilities and labels the studies' own reports. A
limit is right as often as the report agrees with it: of the labels less probable than a lower
limit, how many does the report state after all; of those more probable than an upper one, how many
does it deny. Prints both for a row of limits, with 95 % Wilson intervals.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from scipy.stats import binomtest

from encoders.tabular import read_table
from encoders.training.dataset import clean
from encoders.training.sources.load import read_openi
from rag.report_nlp.labeller import label_text
from rag.report_nlp.scopes import Polarity

DENY = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05)
AFFIRM = (0.5, 0.6, 0.7, 0.8, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("predictions", type=Path)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("--data", type=Path, default=data)
    chosen = parser.parse_args()
    said = list(pairs(chosen.predictions, chosen.data))
    print(f"{len(said)} labels of images\n")
    print("| limit | labels beyond it | the report says otherwise |\n|---|---:|---|")
    for limit in DENY:
        below = [polarity for p, polarity in said if p < limit]
        print(row(f"deny below {limit}", len(below), below.count(Polarity.POSITIVE)))
    for limit in AFFIRM:
        above = [polarity for p, polarity in said if p > limit]
        print(row(f"affirm above {limit}", len(above), above.count(Polarity.NEGATIVE)))


def pairs(predictions: Path, data: Path) -> Iterator[tuple[float, Polarity | None]]:
    """Probability, and what the study's own report says of the label."""
    texts = {study.study_id: study.text for study in clean(read_openi(data)).val}
    for line in read_table(predictions, strict=True):
        stated = label_text(texts[line.values["study_id"]])
        for label, probability in line.values["labels"].items():
            yield probability, stated.get(label)


def row(name: str, n: int, wrong: int) -> str:
    """One line of the table."""
    if not n:
        return f"| {name} | 0 | - |"
    interval = binomtest(wrong, n).proportion_ci(method="wilson")
    return f"| {name} | {n} | {wrong / n:.3f} [{interval.low:.3f}, {interval.high:.3f}] ({wrong}) |"


if __name__ == "__main__":
    main()
