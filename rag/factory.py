"""Settings -> the parts of the product, wired together. The one place that knows them all."""

from collections.abc import Iterator
from contextlib import contextmanager

from encoders.base import ImageTextEncoder
from prompts.render import PromptTemplateError, load_template
from rag.drafting import Drafter
from rag.errors import EncoderUnavailableError, PromptError
from rag.image_analysis import ImageAnalyzer
from rag.index import open_index
from rag.llm.client import ChatClient
from rag.pipeline import ReportPipeline
from rag.retriever import ReportRetriever
from rag.screening.finding_head import load_finding_head
from rag.screening.out_of_distribution import load_ood_detector
from rag.settings import Settings


def load_encoder(settings: Settings) -> ImageTextEncoder:
    """The encoder that ships with the project, or the one in the folder ``settings.encoder``.

    Raises:
        EncoderUnavailableError: weights are missing, damaged, or need a package.
    """
    from encoders.eclip import load_encoder as load  # noqa: PLC0415 - torch takes seconds
    from encoders.packaged_weights import EncoderError  # noqa: PLC0415 - torch takes seconds

    try:
        return load(settings.encoder, backend=settings.encoder_backend)
    except EncoderError as error:
        raise EncoderUnavailableError(str(error)) from error


@contextmanager
def open_retriever(settings: Settings, encoder: ImageTextEncoder) -> Iterator[ReportRetriever]:
    """Encoder and index, ready for queries; the index is closed at the end."""
    with open_index(
        settings.index_dir,
        encoder=encoder,
        url=settings.chroma_url,
        exact=settings.retrieval.search == "exact",
    ) as store:
        yield ReportRetriever(store=store, encoder=encoder, settings=settings.retrieval)


@contextmanager
def open_pipeline(settings: Settings, encoder: ImageTextEncoder) -> Iterator[ReportPipeline]:
    """The whole line from image to draft; the language model is only asked when a study comes.

    Raises:
        PromptError: ``llm.template`` names no template.
        StoreError: no store, or one of another encoder.
    """
    try:
        template = load_template(settings.llm.template)
    except PromptTemplateError as error:
        raise PromptError(str(error)) from error
    llm = ChatClient(settings.llm) if settings.llm.enabled else None
    with open_retriever(settings, encoder) as retriever:
        yield ReportPipeline(
            analyzer=ImageAnalyzer(
                encoder,
                finding_head=load_finding_head(encoder.encoder_id),
                ood_detector=load_ood_detector(encoder),
            ),
            retriever=retriever,
            drafter=Drafter(template, llm, limits=settings.abstention),
        )
