"""Where the time of one study goes, without the language model.

    python benchmarks/pipeline.py --out out/pipeline [--studies 40] [--data FOLDER]

Runs the real pipeline (shipped encoder, an index of the Open-I training reports, the image's own
study left out) over validation images. Milliseconds a study by the stages that a prediction
records, brackets are 95 % intervals, bootstrap over studies. The index is kept in ``--out`` for
later runs.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from common import interval, ninety_fifth

from encoders.training.dataset import clean
from encoders.training.sources.load import read_openi
from rag.config_file import load_settings
from rag.corpus.named import read_corpus
from rag.factory import index_reports, load_encoder, open_pipeline
from rag.index import Exclusions
from rag.study import Study

STAGES = ("read", "encode", "retrieve", "generate", "check")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    settings = load_settings("cpu").model_copy(update={"index_dir": chosen.out / "index"})
    encoder, collection = load_encoder(settings), clean(read_openi(chosen.data))
    corpus = read_corpus("open-i")
    kept = {study.study_id for study in collection.train}
    others = frozenset(record.study_id for record in corpus.records) - kept
    index_reports(settings, corpus, encoder, exclude=others)
    taken = []
    with open_pipeline(settings, encoder) as pipeline:
        pipeline.drafter.llm = None
        for image in collection.val[: chosen.studies + 2]:
            excluded = Exclusions(frozenset([image.study_id]))
            study = Study(image.frontals[0], name=image.study_id, exclude=excluded)
            started = time.perf_counter()
            spent = pipeline.invoke(study).seconds
            whole = time.perf_counter() - started
            taken.append([*(spent.get(stage, 0.0) for stage in STAGES), whole])
    rows = 1000 * np.array(taken[2:])  # what is loaded at the first call is not a study's time
    columns = dict(zip((*STAGES, "all"), rows.T, strict=True))
    columns["all beyond the encoder"] = columns["all"] - columns["encode"]
    print(f"| n = {len(rows)} studies | p50 ms | p95 ms |\n|---|---|---|")
    for name, values in columns.items():
        print(f"| {name} | {interval(np.median, values)} | {interval(ninety_fifth, values)} |")


if __name__ == "__main__":
    main()
