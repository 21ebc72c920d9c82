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
import sys
from pathlib import Path

import numpy as np

# A script's own folder comes first on the path, and there eval.py would hide the package eval.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from encoders.training.dataset import clean, frequent, label_matrix  # noqa: E402
from encoders.training.sources.openi import read_openi  # noqa: E402
from eval.results import MetricValue  # noqa: E402
from eval.tasks.common import Figure, numbers_of  # noqa: E402
from experiments.agreement import agreement_figures, difference  # noqa: E402
from experiments.validate_encoder import MIN_LABEL_COUNT, as_markdown  # noqa: E402
from rag.predictions import read_lines  # noqa: E402

RESAMPLES = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("predictions", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("-k", type=int, default=5)
    chosen = parser.parse_args()
    collection = clean(read_openi(chosen.data))
    names = frequent((study.labels for study in collection.train), least=MIN_LABEL_COUNT)
    rows = {study.study_id: row for row, study in enumerate(collection.train)}
    said = label_matrix([study.labels for study in collection.train], names)
    evidence = {path.stem: evidence_of(path, k=chosen.k) for path in chosen.predictions}
    studies = [s for s in collection.val if all(s.study_id in found for found in evidence.values())]
    truth = label_matrix([study.labels for study in studies], names)
    systems = {}
    for name, found in evidence.items():
        hits = np.array([[rows[report] for report in found[s.study_id]] for s in studies])
        systems[name] = agreement_figures(hits, said=said, truth=truth, names=names)
    patients = [study.patient_id for study in studies]
    print(f"n = {len(studies)}, k = {chosen.k}\n")
    print(as_markdown(values for of in systems.items() for values in values_of(*of, patients)))
    (first, base), *others = systems.items()
    differences = [
        value
        for name, figures in others
        for value in values_of(
            f"{name} against {first}", list(map(difference, figures, base)), patients
        )
    ]
    if differences:
        print("\n" + as_markdown(differences))


def values_of(system: str, figures: list[Figure], patients: list[str]) -> list[MetricValue]:
    """All measures of a system with their intervals."""
    facts = {"subset": "val", "patients": patients, "samples": RESAMPLES, "seed": 0}
    return [v for figure in figures for v in numbers_of(figure, system=system, **facts)]


def evidence_of(path: Path, *, k: int) -> dict[str, list[str]]:
    """The first ``k`` reports of each study that has so many."""
    found = {}
    for line in read_lines(path):
        reports = [hit["report_id"] for hit in line.values["evidence"][:k]]
        if len(reports) == k:
            found[line.values["study_id"]] = reports
    return found


if __name__ == "__main__":
    main()
