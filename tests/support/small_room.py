"""A reading room for tests: real page, server, index and audit record; fake encoder and model."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import fake_choosing_llm
from support.fake_choosing_llm import ChoosingLlm
from support.fake_encoder import FakeEncoder
from support.gradio_warnings import collect_quietly
from support.small_corpus import small_corpus

from encoders.base import CxrImage, ImageTextEncoder
from encoders.eclip.encoder import ImageOutput
from prompts.render import load_template
from rag.drafting.drafter import Drafter
from rag.image_analysis import ImageAnalyzer
from rag.index import ReportIndex, build_index
from rag.llm.client import ChatClient
from rag.pipeline import ReportPipeline
from rag.retriever import ReportRetriever
from rag.review.audit import AuditLog
from rag.settings import LlmSettings, PageSettings, RetrievalSettings, Settings
from reading_room.controller import Controller
from reading_room.file_store import FileStore
from reading_room.worklist import Worklist

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Room:
    """The parts of one page."""

    pipeline: ReportPipeline
    store: ReportIndex
    llm: ChoosingLlm
    audit: AuditLog
    file_store: FileStore
    controller: Controller
    home: Path


class CropEncoder(FakeEncoder):
    """Embeds a crop differently from the whole image, unlike `FakeEncoder`."""

    def embed_images(self, images: Sequence[CxrImage]) -> Floats:
        # by pixels, like `FakeEncoder`; with this first word the reports offer the model a choice
        digests = [hashlib.sha256(image.pixels.tobytes()).hexdigest() for image in images]
        return self._rows(
            [f"one {d} {image.pixels.shape}" for d, image in zip(digests, images, strict=True)]
        )


def show_effusions(encoder: ImageTextEncoder, patch: pytest.MonkeyPatch) -> None:
    """Finding maps for a fake encoder: an effusion low on the left of every image."""
    maps = np.full((1, 1, 14, 14), -6.0, np.float32)
    maps[0, 0, 9:12, 2:5] = 3.0

    def outputs(image: CxrImage) -> ImageOutput:
        return ImageOutput(encoder.embed_images([image]), np.zeros((1, 8), np.float32), maps)

    patch.setattr(encoder, "findings", ("Effusion",), raising=False)
    patch.setattr(encoder, "outputs", outputs, raising=False)


@contextmanager
def small_room(folder: Path) -> Iterator[Room]:
    """Everything but the server."""
    encoder = CropEncoder()
    build_index(small_corpus(), encoder, folder / "index")
    with (
        fake_choosing_llm.serve() as llm,
        ReportIndex(folder / "index", encoder=encoder) as store,
    ):
        pipeline = ReportPipeline(
            analyzer=ImageAnalyzer(encoder),
            retriever=ReportRetriever(
                index=store, encoder=encoder, settings=RetrievalSettings(k=4)
            ),
            drafter=Drafter(
                load_template("select_v1"),
                ChatClient(LlmSettings(url=llm.url, model=fake_choosing_llm.MODEL, retries=0)),
            ),
        )
        audit = AuditLog(folder / "audit" / "audit.jsonl")
        file_store = FileStore(folder / "page", keep_seconds=3600)
        controller = Controller(pipeline, file_store=file_store, audit=audit)
        try:
            yield Room(pipeline, store, llm, audit, file_store, controller, folder)
        finally:
            file_store.close()


@contextmanager
def open_room(room: Room, *, worklist: Worklist | None = None, **page: object) -> Iterator[str]:
    """Serve the room on a free port; yields the address."""
    from app import build_app  # noqa: PLC0415 - gradio takes seconds
    from reading_room.server import run_server  # noqa: PLC0415

    settings = Settings(
        home=room.home,
        page=PageSettings.model_validate({"port": 0, **page}),
        llm=LlmSettings(url=room.llm.url),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(room.file_store.uploads))
        server = build_app(room.controller, settings, worklist)
        with run_server(server, host="127.0.0.1", port=0) as address:
            yield address
    del server
    collect_quietly()
