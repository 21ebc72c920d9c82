"""Drafts a second of a batch against a bare client that sends the same prompts to the same server.

    vllm serve ... --no-enable-prefix-caching     # else whoever asks second has the shorter way
    python benchmarks/batch.py --url http://127.0.0.1:8124/v1 [--openi DATA/openi] [--studies 40]

The product reads, encodes, retrieves, asks, checks and writes; the bare client posts the finished
prompts with as many requests under way. Both do the same block of studies in turn, each first in
every other block, so that what else the machine does falls on both. The ratio is of the sums, with
the 95 % interval of a bootstrap over blocks; above 1 the batch is faster. Images are the val
studies of Open-I, else phantoms. The index is that of ``--config``.
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
from common import draft, interval, phantoms

from encoders.training.dataset import clean
from encoders.training.sources.load import read_openi
from rag.batch.inputs import BatchStudy
from rag.config_file import load_settings
from rag.factory import load_encoder, open_pipeline
from rag.llm.client import ChatClient, Messages
from rag.settings import LlmSettings


class Recording(ChatClient):
    """Keeps the body of every request."""

    def __init__(self, settings: LlmSettings) -> None:
        super().__init__(settings)
        self.most_tokens = settings.max_tokens
        self.bodies: list[dict[str, Any]] = []

    def stream(self, messages: Messages, *, schema: dict[str, Any]) -> Iterator[str]:
        """As the product asks."""
        named = {"name": "draft", "strict": True, "schema": schema}
        self.bodies.append(
            {
                "model": self.model,
                "messages": [{"role": r, "content": c} for r, c in messages],
                "temperature": 0,
                "seed": 0,
                "max_completion_tokens": self.most_tokens,
                "response_format": {"type": "json_schema", "json_schema": named},
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
    parser.add_argument("--at-once", type=int, default=4)
    chosen = parser.parse_args()
    settings = load_settings(chosen.config)
    llm = settings.llm.model_copy(update={"url": chosen.url})
    stages: Counter[str] = Counter()
    seconds: list[tuple[float, float]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pipeline(settings, load_encoder(settings)) as pipeline,
        httpx.Client(base_url=chosen.url, timeout=600) as client,
        ThreadPoolExecutor(chosen.at_once) as pool,
    ):
        studies = (
            val_studies(chosen.openi) if chosen.openi else phantoms(Path(folder), chosen.studies)
        )
        studies = studies[: chosen.studies]
        blocks = [studies[at : at + chosen.block] for at in range(0, len(studies), chosen.block)]

        def product(number: int, name: str) -> float:
            started = time.perf_counter()
            out = Path(folder) / f"{name}-{number}"
            summary = draft(blocks[number], pipeline, out, at_once=chosen.at_once)
            if not summary.complete:
                raise SystemExit(f"not every study has a draft: {summary.statuses}")
            stages.update(summary.stages)
            return time.perf_counter() - started

        def post(body: dict[str, Any]) -> None:
            client.post("chat/completions", json=body).raise_for_status()

        def bare(number: int) -> float:
            started = time.perf_counter()
            list(pool.map(post, bodies[number]))
            return time.perf_counter() - started

        bodies = []  # of each block
        for number in range(len(blocks)):
            pipeline.drafter.llm = recording = Recording(llm)
            product(number, "recorded")
            bodies.append(recording.bodies)
        pipeline.drafter.llm = ChatClient(llm)
        stages.clear()
        for number in range(len(blocks)):
            theirs = bare(number) if number % 2 else 0.0
            ours = product(number, "out")
            seconds.append((theirs or bare(number), ours))
    taken, n = np.array(seconds), len(studies)
    theirs, ours = taken.sum(0)
    print(f"n = {n} drafts in {len(taken)} blocks, {chosen.at_once} questions at once\n")
    print("| who | drafts a second |\n|---|---|")
    print(f"| bare client | {n / theirs:.3f} |\n| cxr-rag batch | {n / ours:.3f} |")
    ratio = interval(lambda a, b: a.sum() / b.sum(), taken[:, 0], taken[:, 1], digits=3)
    print(f"\nbatch / bare: {ratio}\n\n| stage | mean seconds a study |\n|---|---|")
    for stage in ("read", "encode", "retrieve", "generate", "check"):
        print(f"| {stage} | {stages[stage] / n:.4f} |")


def val_studies(openi: Path) -> list[BatchStudy]:
    """The validation studies with all their views."""
    return [
        BatchStudy(
            each.frontals[0], each.study_id, study_id=each.study_id, other_views=each.laterals
        )
        for each in clean(read_openi(openi)).val
    ]


if __name__ == "__main__":
    main()
