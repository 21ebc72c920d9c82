"""How well the evidence of predictions agrees with the images' own reports.

    python benchmarks/evidence.py out/drafting/first.jsonl [more.jsonl ...] [--data FOLDER]

The measures of the encoder's model card (`experiments.validate_encoder`: MeSH headings, Open-I
validation split), but of the reports that ended up as evidence, after labels have had their say.
All files are measured on the studies that all of them have evidence for. Brackets are 95 %
percentile intervals over studies (2 000 resamples, seed 0); the second table holds the differences
to the first file, study by study.
"""

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoders.training.dataset import clean, frequent, read_openi
from encoders.training.retrieval_metrics import Measure, Votes, bootstrap, overlap, table, vote
from experiments.validate_encoder import LEAST_LABEL_COUNT, NORMAL, label_table
from rag.predictions import read_lines

RESAMPLES = 2_000
Labels = NDArray[np.bool_]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("predictions", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("-k", type=int, default=5)
    chosen = parser.parse_args()
    collection = clean(read_openi(chosen.data))
    names = frequent((study.labels for study in collection.train), least=LEAST_LABEL_COUNT)
    rows = {study.study_id: row for row, study in enumerate(collection.train)}
    said = label_table(collection.train, names)
    evidence = {path.stem: evidence_of(path, k=chosen.k) for path in chosen.predictions}
    studies = [s for s in collection.val if all(s.study_id in found for found in evidence.values())]
    truth = label_table(studies, names)
    systems = {}
    for name, found in evidence.items():
        hits = np.array([[rows[report] for report in found[s.study_id]] for s in studies])
        systems[name] = measures_of(hits, said=said, truth=truth, names=names)
    interval = partial(bootstrap, studies=len(studies), resamples=RESAMPLES)
    print(f"n = {len(studies)}, k = {chosen.k}\n")
    print(table({name: {m: interval(f) for m, f in of.items()} for name, of in systems.items()}))
    (first, base), *others = systems.items()
    differences = {
        f"{name} against {first}": {m: interval(partial(apart, f, base[m])) for m, f in of.items()}
        for name, of in others
    }
    if differences:
        print("\n" + table(differences))


def evidence_of(path: Path, *, k: int) -> dict[str, list[str]]:
    """The first ``k`` reports of each study that has so many."""
    found = {}
    for line in read_lines(path):
        reports = [hit["report_id"] for hit in line.values["evidence"][:k]]
        if len(reports) == k:
            found[line.values["study_id"]] = reports
    return found


def measures_of(
    hits: NDArray[np.intp], *, said: Labels, truth: Labels, names: Sequence[str]
) -> dict[str, Measure]:
    """What retrieved reports (rows of ``said``) say against what the images' own say."""
    abnormal = [number for number, name in enumerate(names) if name != NORMAL]
    votes = Votes(vote(hits, said)[:, abnormal], truth[:, abnormal])
    overlaps = overlap(hits, said, truth)
    return {
        "label overlap": lambda rows: float(overlaps[rows].mean()),
        "finding found": votes.found,
        "mention right": votes.right,
        "F1 (2 of 5 say so)": partial(votes.micro_f1, least=0.4),
        "macro AUC": votes.macro_auc,
    }


def apart(one: Measure, other: Measure, rows: NDArray[np.intp]) -> float:
    """The difference of two measures on the same studies."""
    return one(rows) - other(rows)


if __name__ == "__main__":
    main()
