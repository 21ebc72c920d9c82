"""Drafts a second of a batch against a bare client that sends the same prompts to the same server.

    vllm serve ... --no-enable-prefix-caching     # else whoever asks second has the shorter way
    python benchmarks/batch.py --url http://127.0.0.1:8124/v1 [--openi DATA/openi] [--studies 40]

The product reads, encodes, retrieves, asks, checks and writes; the bare client posts the finished
prompts with as many requests under way. Both do the same block of studies in turn, each first in
every other block, so that what else the machine does falls on both. The ratio is of the sums, with
the 95 % interval of a bootstrap over blocks (seed 0); above 1 the batch is faster. Images are the
val studies of Open-I, else phantoms. The index is that of ``--config``.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from demo.phantom import PhantomFinding, write_phantom_dicom
from encoders.training.dataset import clean
from encoders.training.sources.load import read_openi
from prompts.render import render
from rag.batch.inputs import BatchStudy
from rag.batch.output import BatchOutput
from rag.batch.runner import run_batch
from rag.batch.workers import Engine, Outage, threaded_prepare
from rag.config_file import load_settings
from rag.drafting.requests import DraftInputs, build_request
from rag.drafting.slots import slots_for
from rag.factory import load_encoder, open_pipeline
from rag.index import Exclusions
from rag.llm.client import ChatClient
from rag.pipeline import ReportPipeline
from rag.settings import LlmSettings
from rag.study import Study


@dataclass(frozen=True, slots=True)
class Asked:
    """A study with the request that it comes to."""

    study: BatchStudy
    body: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8100/v1")
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--openi", type=Path, default=None)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--block", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=4)
    chosen = parser.parse_args()
    settings = load_settings(chosen.config)
    llm = settings.llm.model_copy(update={"url": chosen.url})
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pipeline(settings, load_encoder(settings)) as pipeline,
    ):
        pipeline.drafter.llm = ChatClient(llm)
        source = val_studies(chosen.openi) if chosen.openi else phantoms(Path(folder))
        asked = asked_of(pipeline, source, llm, count=chosen.studies)
        blocks = [asked[at : at + chosen.block] for at in range(0, len(asked), chosen.block)]
        measure(
            blocks * chosen.rounds,
            pipeline,
            llm,
            at_once=chosen.at_once,
            readers=settings.batch.num_workers,
            folder=Path(folder),
        )


def val_studies(openi: Path) -> Iterator[BatchStudy]:
    for study in clean(read_openi(openi)).val:
        yield BatchStudy(
            study_id=study.study_id,
            image=study.frontals[0],
            name=study.study_id,
            further=study.laterals,
        )


def phantoms(folder: Path) -> Iterator[BatchStudy]:
    for seed in range(10_000):
        path = folder / f"{seed}.dcm"
        finding = list(PhantomFinding)[seed % len(PhantomFinding)]
        write_phantom_dicom(path, seed=seed, finding=finding)
        yield BatchStudy(study_id=str(seed), image=path, name=str(seed))


def asked_of(
    pipeline: ReportPipeline, studies: Iterator[BatchStudy], llm: LlmSettings, *, count: int
) -> list[Asked]:
    """The first studies that come to a question, with what the product would send."""
    found: list[Asked] = []
    for study in studies:
        prepared = pipeline.prepare(
            Study(
                source=study.image,
                name=study.name,
                further=study.further,
                exclude=Exclusions(frozenset({study.study_id})),
            )
        )
        if prepared.analysis is None or prepared.retrieval is None:
            continue
        template = pipeline.drafter.template
        retrieval, predicted = prepared.retrieval, prepared.analysis.predicted
        slots = slots_for(retrieval.pool, predicted)
        inputs = DraftInputs(
            slots, retrieval.hits, reports=len(retrieval.pool), predicted=predicted
        )
        request = build_request(template.mode, inputs)
        messages = render(template, request.variables).messages
        schema = {"name": "draft", "strict": True, "schema": request.schema}
        found.append(
            Asked(
                study,
                {
                    "model": llm.model,
                    "messages": [{"role": r, "content": c} for r, c in messages],
                    "temperature": 0,
                    "seed": 0,
                    "max_completion_tokens": llm.max_tokens,
                    "response_format": {"type": "json_schema", "json_schema": schema},
                },
            )
        )
        if len(found) == count:
            break
    return found


def measure(
    blocks: Sequence[Sequence[Asked]],
    pipeline: ReportPipeline,
    llm: LlmSettings,
    *,
    at_once: int,
    readers: int,
    folder: Path,
) -> None:
    stages: Counter[str] = Counter()
    seconds: list[tuple[float, float]] = []

    def product(number: int) -> float:
        with BatchOutput(folder / f"out-{number}") as output:
            started = time.perf_counter()
            prepare = threaded_prepare(pipeline, threads=readers)
            engine = Engine(pipeline, prepare, at_once, Outage(300))
            summary = run_batch([one.study for one in blocks[number]], engine, output)
            if not summary.complete:
                raise SystemExit(f"not every study has a draft: {summary.statuses}")
            stages.update(summary.stages)
            return time.perf_counter() - started

    with httpx.Client(base_url=llm.url, timeout=600) as client, ThreadPoolExecutor(at_once) as pool:

        def post(one: Asked) -> None:
            client.post("chat/completions", json=one.body).raise_for_status()

        def bare(number: int) -> float:
            started = time.perf_counter()
            list(pool.map(post, blocks[number]))
            return time.perf_counter() - started

        post(blocks[0][0])  # warm
        for number in range(len(blocks)):
            if number % 2:
                ours, theirs = product(number), bare(number)
            else:
                theirs, ours = bare(number), product(number)
            seconds.append((theirs, ours))
    print_result(seconds, stages, studies=sum(map(len, blocks)), at_once=at_once)


def print_result(
    seconds: Sequence[tuple[float, float]], stages: Counter[str], *, studies: int, at_once: int
) -> None:
    taken = np.array(seconds)
    theirs, ours = taken.sum(0)
    drawn = np.random.default_rng(0).integers(0, len(taken), (5000, len(taken)))
    sums = taken[drawn].sum(1)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    print(f"n = {studies} drafts in {len(taken)} blocks, {at_once} questions at once\n")
    print("| who | drafts a second |\n|---|---|")
    print(f"| bare client | {studies / theirs:.3f} |\n| cxr-rag batch | {studies / ours:.3f} |")
    print(f"\nbatch / bare: {theirs / ours:.3f} ({low:.3f} to {high:.3f})\n")
    print("| stage | mean seconds a study |\n|---|---|")
    for stage in ("read", "encode", "retrieve", "generate", "check"):
        print(f"| {stage} | {stages[stage] / studies:.4f} |")


if __name__ == "__main__":
    main()
