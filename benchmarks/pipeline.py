"""Where the time of one study goes, without the language model.

    python benchmarks/pipeline.py --out out/pipeline [--studies 40] [--data FOLDER]

Runs the real pipeline (shipped encoder, a store of the Open-I training reports, the image's own
study and patient left out) over validation images, with a clock around each step; the draft takes
the first option of every slot. Milliseconds a study, brackets are 95 % intervals, bootstrap over
studies (2 000 resamples, seed 0); ``cpu ms`` is the median processor time of the process, which
other work on the machine changes least. The store is kept in ``--out`` for later runs.
"""

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import rag.pipeline as line
import rag.study as loading
from encoders.eclip.encoder import EclipEncoder, load_encoder
from encoders.packaged_weights import SHIPPED
from encoders.training.dataset import TrainingStudy as Image
from encoders.training.dataset import clean
from encoders.training.sources.load import read_openi
from prompts.render import load_template
from rag.corpus.openi import read_openi_reports
from rag.drafting import drafter
from rag.grounding.prompt_injection import screen_report
from rag.image_analysis import ImageAnalyzer
from rag.index import Exclusions, ReportIndex, build_index
from rag.report_reading import annotate_labels
from rag.retriever import ReportRetriever
from rag.screening.finding_head import FindingPredictor, load_finding_predictor
from rag.screening.out_of_distribution import OodDetector, load_ood_detector
from rag.settings import DraftingSettings, RetrievalSettings
from rag.study import Study

STEPS: tuple[tuple[str, Any, str], ...] = (
    ("header", loading, "read_image_info"),
    ("read the image", loading, "read_image"),
    ("encode", EclipEncoder, "outputs"),
    ("strange pixels?", OodDetector, "judge"),
    ("findings", FindingPredictor, "predict"),
    ("retrieve", ReportRetriever, "retrieve"),
    ("consensus", drafter, "slots_for"),
    ("prompt", drafter, "render"),
    ("read the answer", drafter, "parse_response"),
    ("check", line, "check_draft"),
)
ENCODE, ALL, CPU = "encode", "all", " cpu"
Milliseconds = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    encoder = load_encoder()
    collection = clean(read_openi(chosen.data))
    reports = read_openi_reports()
    kept = frozenset(study.study_id for study in collection.train)
    others = frozenset(record.study_id for record in reports.records) - kept
    store_dir = chosen.out / "store"
    build_index(
        reports, encoder, store_dir, exclude=others, screens=(screen_report, annotate_labels)
    )
    with ReportIndex(store_dir, encoder=encoder) as store:
        pipeline = line.ReportPipeline(
            analyzer=ImageAnalyzer(
                encoder,
                findings=load_finding_predictor(SHIPPED, encoder.encoder_id, DraftingSettings()),
                ood_detector=load_ood_detector(SHIPPED, encoder),
            ),
            retriever=ReportRetriever(store=store, encoder=encoder, settings=RetrievalSettings()),
            drafter=drafter.Drafter(load_template("select_v1"), None),
        )
        images = collection.val[: chosen.studies + 2]
        run(pipeline, images[-2:])  # what is loaded at the first call is not a study's time
        taken = run(pipeline, images[:-2])
        print(f"{len(store)} reports, {chosen.threads} thread(s)\n")
    print_steps(taken)


def run(pipeline: line.ReportPipeline, images: Sequence[Image]) -> list[Milliseconds]:
    """Draft each image; milliseconds by step."""
    taken: list[Milliseconds] = []
    for image in images:
        source = image.frontals[0]
        study = Study(
            source=source,
            name=source.name,
            study_id=image.study_id,
            exclude=Exclusions(frozenset([image.study_id])),
        )
        spent: Milliseconds = defaultdict(float)
        with clocks(spent), clock(spent, ALL):
            pipeline.invoke(study)
        taken.append(spent)
    return taken


@contextmanager
def clocks(spent: Milliseconds) -> Iterator[None]:
    """A clock around every step of the pipeline, whichever object or module it belongs to."""
    with ExitStack() as patched:
        for name, owner, step in STEPS:
            timed = _timed(getattr(owner, step), spent, name)
            patched.enter_context(patch.object(owner, step, timed))
        yield


def _timed(step: Callable[..., Any], spent: Milliseconds, name: str) -> Callable[..., Any]:
    def timed(*args: Any, **more: Any) -> Any:
        with clock(spent, name):
            return step(*args, **more)

    return timed


@contextmanager
def clock(spent: Milliseconds, name: str) -> Iterator[None]:
    """Add the wall time and the processor time of a block."""
    started, busy = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        spent[name] += 1000 * (time.perf_counter() - started)
        spent[name + CPU] += 1000 * (time.process_time() - busy)


def print_steps(taken: Sequence[Milliseconds]) -> None:
    """The table: each step, what lies between them, and their sum beyond the encoder."""
    wall, cpu = _rows(taken, ""), _rows(taken, CPU)
    print(f"| step (n = {len(taken)} studies) | p50 ms | p95 ms | cpu ms |\n{'|---' * 4}|")
    for name, values in wall.items():
        busy = np.median(cpu[name])
        print(f"| {name} | {_interval(values, 50)} | {_interval(values, 95)} | {busy:.1f} |")


def _rows(taken: Sequence[Milliseconds], clock_of: str) -> dict[str, Any]:
    rows = {name: np.array([spent[name + clock_of] for spent in taken]) for name, _, _ in STEPS}
    whole = np.array([spent[ALL + clock_of] for spent in taken])
    return {
        **rows,
        "between the steps": whole - sum(rows.values()),
        "**all beyond the encoder**": whole - rows[ENCODE],
    }


def _interval(values: Any, share: float) -> str:
    drawn = np.random.default_rng(0).choice(values, (2000, len(values)))
    low, high = np.percentile(np.percentile(drawn, share, axis=1), [2.5, 97.5])
    return f"{np.percentile(values, share):.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
