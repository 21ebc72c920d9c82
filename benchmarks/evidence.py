"""How well the evidence of predictions agrees with the films' own reports.

    python benchmarks/evidence.py out/drafting/first.jsonl [more.jsonl ...] [--data FOLDER]

The measures of the encoder's model card (`encoders.training.validate`: MeSH headings, Open-I
validation split), but of the reports that ended up as evidence, after labels have had their say.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from encoders.training.agreement import table
from encoders.training.data import clean, frequent, read_openi
from encoders.training.validate import LEAST_LABEL_COUNT, agreement_of, label_table
from rag.predictions import read_lines

SHOWN = ("label overlap", "finding found", "mention right", "F1 (2 of 5 say so)", "macro AUC")


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
    systems = {}
    for path in chosen.predictions:
        found = {line.values["study_id"]: line.values["evidence"] for line in read_lines(path)}
        studies = [s for s in collection.val if len(found.get(s.study_id, ())) >= chosen.k]
        hits = [[rows[h["report_id"]] for h in found[s.study_id][: chosen.k]] for s in studies]
        values = agreement_of(
            np.array(hits), said=said, truth=label_table(studies, names), names=names
        )
        systems[f"{path.parent.name}/{path.stem} (n={len(studies)})"] = values
    print(table({m: {s: v[m] for s, v in systems.items()} for m in SHOWN}))


if __name__ == "__main__":
    main()
