"""Time per study by stage of the pipeline, without a language model.

    python benchmarks/pipeline.py --out out/pipeline [--studies 40] [--data FOLDER]

Shipped encoder, an index of Open-I's training reports (kept in ``--out``), validation images.
Milliseconds with 95 % bootstrap intervals over studies.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from common import interval, p95

from encoders.training.dataset import build_dataset
from encoders.training.sources.load import data_folder, read_openi
from rag.config_file import load_settings
from rag.corpus.named import read_corpus
from rag.factory import index_reports, load_encoder, open_pipeline
from rag.index import Exclusions
from rag.study import Study

STAGES = ("read", "encode", "retrieve", "generate", "check")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=data_folder() / "openi")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = load_settings("cpu").model_copy(update={"index_dir": options.out / "index"})
    encoder, dataset = load_encoder(settings), build_dataset(read_openi(options.data))
    corpus = read_corpus("open-i")
    training = {study.study_id for study in dataset.train}
    others = frozenset(record.study_id for record in corpus.records) - training
    index_reports(settings, corpus, encoder, exclude=others)
    timings = []
    with open_pipeline(settings, encoder) as pipeline:
        pipeline.drafter.llm = None
        for image in dataset.val[: options.studies + 2]:
            excluded = Exclusions(frozenset([image.study_id]))
            study = Study(image.frontals[0], name=image.study_id, exclude=excluded)
            started = time.perf_counter()
            seconds = pipeline.invoke(study).seconds
            total = time.perf_counter() - started
            timings.append([*(seconds.get(stage, 0.0) for stage in STAGES), total])
    rows = 1000 * np.array(timings[2:])  # the first calls also load models
    columns = dict(zip((*STAGES, "all"), rows.T, strict=True))
    columns["all but encode"] = columns["all"] - columns["encode"]
    print(f"| n = {len(rows)} studies | p50 ms | p95 ms |\n|---|---|---|")
    for name, values in columns.items():
        print(f"| {name} | {interval(np.median, values)} | {interval(p95, values)} |")


if __name__ == "__main__":
    main()
