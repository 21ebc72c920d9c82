"""A small batch for tests: real index, real runner, fake encoder, fake model by URL.

`run` is what a child process does, too, so that it can be killed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from support.fake_choosing_llm import MODEL
from support.fake_encoder import FakeEncoder

from prompts.render import load_template
from rag.batch.grouping import group_images
from rag.batch.inputs import list_images
from rag.batch.output import open_output
from rag.batch.runner import Counts, run_batch
from rag.batch.workers import Engine, Prepare, Stop, threaded_prepare
from rag.drafting.drafter import Drafter
from rag.image_analysis import ImageAnalyzer
from rag.index import ReportIndex
from rag.llm.client import ChatClient
from rag.llm.vllm_server import is_alive
from rag.pipeline import ReportPipeline
from rag.retriever import ReportRetriever
from rag.settings import AbstentionSettings, LlmSettings

K = 4


def draw_image(path: Path, number: int) -> Path:
    """A small image of its own: a ramp with a number's worth of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 40, (40, 40))
    ramp = np.linspace(0, 200, 1600).reshape(40, 40)
    Image.fromarray((ramp + noise).astype(np.uint8)).save(path)
    return path


def draw_images(folder: Path, count: int) -> Path:
    """Images f000.png, f001.png, ..."""
    for number in range(count):
        draw_image(folder / f"f{number:03d}.png", number)
    return folder


@contextmanager
def small_pipeline(
    store: Path, url: str, *, template: str = "select_v1"
) -> Iterator[ReportPipeline]:
    """A pipeline on an index, with a fake encoder, that asks a model at a URL."""
    encoder = FakeEncoder()
    with ReportIndex(store, encoder=encoder) as opened:
        yield ReportPipeline(
            analyzer=ImageAnalyzer(encoder),
            retriever=ReportRetriever(index=opened, encoder=encoder, k=K),
            drafter=Drafter(
                load_template(template),
                ChatClient(LlmSettings(url=url, model=MODEL, retries=0)),
                limits=AbstentionSettings(similarity=-1),  # the fake encoder sees no likeness
            ),
        )


def run(
    source: Path,
    output: Path,
    *,
    store: Path,
    url: str,
    retry_failed: bool = False,
    outage_timeout_s: float = 5,
    stop: Stop | None = None,
    prepare: Prepare | None = None,
) -> Counts:
    """One whole run."""
    with open_output(output) as out, small_pipeline(store, url) as pipeline:
        engine = Engine(
            pipeline,
            prepare or threaded_prepare(pipeline, threads=2),
            max_concurrency=8,
            outage_timeout_s=outage_timeout_s,
            is_alive=lambda: is_alive(LlmSettings(url=url)),
            stop=stop or Stop(),
        )
        studies, _ = group_images(list_images(source).images)
        return run_batch(studies, engine, out, retry_failed=retry_failed)
