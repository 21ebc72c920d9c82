"""Drafts of the validation studies under different settings: the runs behind docs/results.md.

    python benchmarks/drafting.py --out out/drafting [--arms no-model,no-head] [--data FOLDER]

Makes a store of the training reports only, drafts every validation study once an arm, and writes
``<out>/<arm>.jsonl``; a run that was cut goes on where it was. Then, with ``S`` for
``$CXR_DATA/openi/studies.jsonl``:

    cxr-rag eval score out/drafting/no-model.jsonl --references S --split val --train S
        --train-split train --out out/score/no-model
    cxr-rag eval compare out/score/no-model out/score/no-head

Arms that do not ask draft without a language model; the others need the server of ``llm.url``.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from encoders.base import CxrImage, ImageTextEncoder
from encoders.eclip.encoder import load_encoder
from encoders.packaged_weights import SHIPPED
from encoders.tabular import read_table
from encoders.training.dataset import clean
from encoders.training.sources.load import read_openi
from prompts.render import load_template
from rag.batch.output import PredictionLog
from rag.cli.options import progress_bars
from rag.config_file import load_settings
from rag.corpus.openi import read_openi as read_reports
from rag.drafting import Drafter
from rag.grounding.prompt_injection import screen_report
from rag.image_analysis import ImageAnalyzer
from rag.index import ReportIndex, build_index
from rag.llm.client import ChatClient
from rag.pipeline import ReportPipeline
from rag.report_reading import annotate_labels
from rag.retriever import ReportRetriever
from rag.screening.finding_head import load_finding_predictor
from rag.settings import DraftingSettings, RetrievalSettings
from rag.study import Study


@dataclass(frozen=True, slots=True)
class DraftingArm:
    """One way to draft."""

    retrieval: dict[str, Any] = field(default_factory=dict)
    drafting: dict[str, Any] = field(default_factory=dict)
    head: bool = True
    template: str = "select_v1"
    asks: bool = False
    max_tokens: int = 256


ARMS = {
    "no-model": DraftingArm(),
    "chooses": DraftingArm(asks=True),
    "writes": DraftingArm(template="write_v3", asks=True, max_tokens=768),
    "no-head": DraftingArm(head=False),
    "pool-5": DraftingArm({"fetch_k": 5}),
    "pool-50": DraftingArm({"fetch_k": 50}),
    "pool-150": DraftingArm({"fetch_k": 150}),
    **{
        f"rate-{rate}": DraftingArm(drafting={"false_finding_rate": rate})
        for rate in (0.05, 0.1, 0.2, 0.25)
    },
}


class ImagesOnce:
    """An encoder that remembers the vector of each image, so that all arms see the same ones."""

    def __init__(self, encoder: ImageTextEncoder) -> None:
        self._encoder = encoder
        self._images: dict[str, NDArray[np.float32]] = {}
        self.encoder_id, self.dim = encoder.encoder_id, encoder.dim
        self.preprocess_hash = encoder.preprocess_hash
        self.embed_texts = encoder.embed_texts

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        """See `encoders.base.ImageTextEncoder`."""
        for image in images:
            if image.source_sha256 not in self._images:
                self._images[image.source_sha256] = self._encoder.embed_images([image])[0]
        return np.stack([self._images[image.source_sha256] for image in images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    data = Path(os.environ.get("CXR_DATA", "../shared/data")) / "openi"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--limit", type=int, default=None, help="only the first N studies")
    chosen = parser.parse_args()
    encoder = ImagesOnce(load_encoder())
    collection = clean(read_openi(chosen.data))
    kept = frozenset(study.study_id for study in collection.train)
    reports = read_reports()
    others = frozenset(r.study_id for r in reports.records) - kept
    store_dir = chosen.out / "store"
    arms = {name: ARMS[name] for name in chosen.arms.split(",")}
    with progress_bars() as progress:
        build_index(
            reports,
            encoder,
            store_dir,
            exclude=others,
            screens=(screen_report, annotate_labels),
            progress=progress,
        )
    for name, arm in arms.items():
        with ReportIndex(store_dir, encoder=encoder) as store:
            pipeline = ReportPipeline(
                analyzer=ImageAnalyzer(
                    encoder,
                    findings=load_finding_predictor(
                        SHIPPED, encoder.encoder_id, DraftingSettings(**arm.drafting)
                    )
                    if arm.head
                    else None,
                ),
                retriever=ReportRetriever(
                    store=store, encoder=encoder, settings=RetrievalSettings(**arm.retrieval)
                ),
                drafter=Drafter(load_template(arm.template), _model(arm)),
            )
            asked = [
                Study(
                    source=image.frontals[0],
                    further=(*image.frontals[1:], *image.laterals),
                    name=image.frontals[0].name,
                    study_id=image.study_id,
                    study_ids=frozenset([image.study_id]),
                )
                for image in collection.val[: chosen.limit]
            ]
            draft_all(pipeline, asked, chosen.out / f"{name}.jsonl", name)


def draft_all(pipeline: ReportPipeline, studies: Sequence[Study], path: Path, name: str) -> None:
    """Append a prediction for each study that has none yet."""
    done = (
        {line.values["study_id"] for line in read_table(path, strict=True)}
        if path.exists()
        else set()
    )
    with PredictionLog(path) as log:
        for study in track(studies, description=name):
            if study.study_id not in done:
                log.append(pipeline.invoke(study))


def _model(arm: DraftingArm) -> ChatClient | None:
    if not arm.asks:
        return None
    llm = load_settings("cpu").llm
    return ChatClient(llm.model_copy(update={"max_tokens": arm.max_tokens}))


if __name__ == "__main__":
    main()
