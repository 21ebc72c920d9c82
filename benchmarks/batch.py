"""Throughput of a batch, relative to a bare client that sends the same prompts to the same server.

    vllm serve ... --no-enable-prefix-caching     # else the second to ask would be favoured
    python benchmarks/batch.py --url http://127.0.0.1:8124/v1 [--openi DATA/openi] [--studies 40]

The batch reads, encodes, retrieves, prompts, checks and writes; the bare client posts the recorded
prompts with the same concurrency. Both run each block of studies, in alternating order, so that
other load affects both. The ratio is of total times, with a 95 % bootstrap interval over blocks;
above 1 the batch is faster. Images are Open-I's validation studies, or phantoms; the index is that
of ``--config``.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from common import interval, phantoms, run_studies

from encoders.training.dataset import build_dataset
from encoders.training.sources.load import read_openi
from rag.batch.inputs import BatchStudy
from rag.config_file import load_settings
from rag.factory import load_encoder, open_pipeline
from rag.llm.client import ChatClient, Messages
from rag.settings import LlmSettings


class RecordingClient(ChatClient):
    """Records the body of every request."""

    def __init__(self, settings: LlmSettings) -> None:
        super().__init__(settings)
        self.max_tokens = settings.max_tokens
        self.bodies: list[dict[str, Any]] = []

    def stream(self, messages: Messages, *, schema: dict[str, Any]) -> Iterator[str]:
        """As the parent, which sends the same body."""
        response_schema = {"name": "draft", "strict": True, "schema": schema}
        self.bodies.append(
            {
                "model": self.model,
                "messages": [{"role": r, "content": c} for r, c in messages],
                "temperature": 0,
                "seed": 0,
                "max_completion_tokens": self.max_tokens,
                "response_format": {"type": "json_schema", "json_schema": response_schema},
            }
        )
        yield from super().stream(messages, schema=schema)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8100/v1")
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--openi", type=Path, default=None)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--block", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=4, dest="concurrency")
    options = parser.parse_args()
    settings = load_settings(options.config)
    llm = settings.llm.model_copy(update={"url": options.url})
    stages: Counter[str] = Counter()
    timings: list[tuple[float, float]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pipeline(settings, load_encoder(settings)) as pipeline,
        httpx.Client(base_url=options.url, timeout=600) as client,
        ThreadPoolExecutor(options.concurrency) as pool,
    ):
        studies = (
            val_studies(options.openi) if options.openi else phantoms(Path(folder), options.studies)
        )
        studies = studies[: options.studies]
        blocks = [studies[i : i + options.block] for i in range(0, len(studies), options.block)]

        def run_batch(block: int, name: str) -> float:
            started = time.perf_counter()
            out = Path(folder) / f"{name}-{block}"
            summary = run_studies(blocks[block], pipeline, out, concurrency=options.concurrency)
            if not summary.complete:
                raise SystemExit(f"not every study has a draft: {summary.statuses}")
            stages.update(summary.stages)
            return time.perf_counter() - started

        def post(body: dict[str, Any]) -> None:
            client.post("chat/completions", json=body).raise_for_status()

        def run_bare(block: int) -> float:
            started = time.perf_counter()
            list(pool.map(post, bodies[block]))
            return time.perf_counter() - started

        bodies = []  # by block
        for block in range(len(blocks)):
            pipeline.drafter.llm = recorder = RecordingClient(llm)
            run_batch(block, "recorded")
            bodies.append(recorder.bodies)
        pipeline.drafter.llm = ChatClient(llm)
        stages.clear()
        for block in range(len(blocks)):
            bare = run_bare(block) if block % 2 else None
            batch = run_batch(block, "out")
            timings.append((run_bare(block) if bare is None else bare, batch))
    n, (bare_seconds, batch_seconds) = len(studies), np.array(timings).T
    print(f"n = {n} drafts in {len(blocks)} blocks, {options.concurrency} requests at once\n")
    print("| client | drafts per second |\n|---|---|")
    print(f"| bare client | {n / bare_seconds.sum():.3f} |")
    print(f"| cxr-rag batch | {n / batch_seconds.sum():.3f} |")
    ratio = interval(lambda a, b: a.sum() / b.sum(), bare_seconds, batch_seconds, digits=3)
    print(f"\nbatch / bare: {ratio}\n\n| stage | mean seconds per study |\n|---|---|")
    for stage in ("read", "encode", "retrieve", "generate", "check"):
        print(f"| {stage} | {stages[stage] / n:.4f} |")


def val_studies(openi: Path) -> list[BatchStudy]:
    """Open-I's validation studies with all their views."""
    return [
        BatchStudy(
            study.frontals[0], study.study_id, study_id=study.study_id, other_views=study.laterals
        )
        for study in build_dataset(read_openi(openi)).val
    ]


if __name__ == "__main__":
    main()
