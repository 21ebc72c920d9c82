"""Settings -> encoder, retriever, pipeline and index: the one place that composes them.

Imports that only a query or draft needs are local, which saves indexing a second.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from encoders import registry
from encoders.base import ImageEncoder
from encoders.packaged_weights import EncoderError
from prompts.render import TEMPLATES, PromptTemplate, PromptTemplateError, load_template
from rag.corpus.records import Corpus
from rag.errors import EncoderUnavailableError, UsageError
from rag.grounding.prompt_injection import screen_report
from rag.index import IndexSummary, Progress, ReportIndex, build_index
from rag.index.embedding import NO_IMAGES, Images
from rag.privacy.reports import mask_identifiers
from rag.report_reading import annotate_labels
from rag.screening.out_of_distribution import load_ood_detector
from rag.settings import Settings

if TYPE_CHECKING:
    from rag.pipeline import ReportPipeline
    from rag.retriever import ReportRetriever

NO_FINDING_HEAD = (
    "this encoder has no finding head: no findings are predicted, no sentence is marked likely or "
    "unlikely by the image, and there is no confidence (`cxr-rag fit-heads` makes one)"
)
NO_OOD_DETECTOR = (
    "this encoder has no refusal statistics: a picture that is no chest X-ray is refused by its "
    "header and colours alone (`cxr-rag fit-heads` makes them)"
)


def load_encoder(settings: Settings) -> ImageEncoder:
    """Load ``settings.encoder``.

    Raises:
        EncoderUnavailableError: weights are missing, damaged, or need a package.
    """
    try:
        return registry.load_encoder(settings.encoder, backend=settings.encoder_backend)
    except EncoderError as error:
        raise EncoderUnavailableError(str(error)) from error


def encoder_folder(settings: Settings, encoder: ImageEncoder) -> Path:
    """Folder of the parts trained on an encoder's vectors: fitted here, or shipped with it."""
    fitted = fitted_folder(settings, encoder)
    return fitted if fitted.is_dir() else registry.eclip_folder(settings.encoder) or fitted


def fitted_folder(settings: Settings, encoder: ImageEncoder) -> Path:
    """Folder that `cxr-rag fit-heads` writes, one per encoder."""
    return settings.home / "encoders" / encoder.encoder_id


@contextmanager
def open_retriever(settings: Settings, encoder: ImageEncoder) -> Iterator["ReportRetriever"]:
    """A retriever on the settings' index, which is closed at the end."""
    from rag.retriever import ReportRetriever  # noqa: PLC0415

    with ReportIndex(settings.index_dir, encoder=encoder, url=settings.chroma_url) as store:
        yield ReportRetriever(index=store, encoder=encoder, settings=settings.retrieval)


@contextmanager
def open_pipeline(settings: Settings, encoder: ImageEncoder) -> Iterator["ReportPipeline"]:
    """The pipeline from image to draft; connects to the language model only when asked to draft.

    Raises:
        UsageError: there is no template ``llm.template``.
        StoreError: there is no index, or it was built with another encoder.
    """
    from rag.change import read_change_model  # noqa: PLC0415
    from rag.drafting.drafter import Drafter  # noqa: PLC0415
    from rag.image_analysis import ImageAnalyzer  # noqa: PLC0415
    from rag.llm.client import ChatClient  # noqa: PLC0415
    from rag.localization import read_map_measures  # noqa: PLC0415
    from rag.pipeline import ReportPipeline  # noqa: PLC0415
    from rag.screening.finding_head import load_finding_predictor  # noqa: PLC0415

    client = ChatClient(settings.llm)
    llm = client if settings.llm.enabled else None
    drafter = Drafter(load_prompt_template(settings), llm, limits=settings.abstention)
    folder = encoder_folder(settings, encoder)
    findings = load_finding_predictor(folder, encoder.encoder_id, settings.drafting)
    ood_detector = load_ood_detector(folder, encoder)
    analyzer = ImageAnalyzer(
        encoder,
        findings=findings,
        ood_detector=ood_detector,
        change_model=read_change_model(folder, encoder.encoder_id),
        map_measures=read_map_measures(registry.eclip_folder(settings.encoder)),
        notes=[
            note
            for note, part in ((NO_FINDING_HEAD, findings), (NO_OOD_DETECTOR, ood_detector))
            if part is None
        ],
    )
    with closing(client), open_retriever(settings, encoder) as retriever:
        yield ReportPipeline(analyzer=analyzer, retriever=retriever, drafter=drafter)


def template_folder(settings: Settings) -> Path:
    """Folder of the prompt templates."""
    return settings.prompt_dir or TEMPLATES


def load_prompt_template(settings: Settings) -> PromptTemplate:
    """Load the template ``llm.template``.

    Raises:
        UsageError: there is no such template, or it is broken.
    """
    try:
        return load_template(settings.llm.template, templates=template_folder(settings))
    except PromptTemplateError as error:
        raise UsageError(f"llm.template: {error}") from error


def index_reports(
    settings: Settings,
    corpus: Corpus,
    encoder: ImageEncoder,
    *,
    exclude: frozenset[str] = frozenset(),
    images: Images = NO_IMAGES,
    replace: bool = False,
    progress: Progress = lambda *_: None,
) -> IndexSummary:
    """Bring the index into line with a collection.

    Names and dates are masked, text that addresses a language model is withheld, and the labels for
    re-ranking are stored. Arguments and errors are those of `rag.index.build_index`.
    """
    return build_index(
        corpus,
        encoder,
        settings.index_dir,
        url=settings.chroma_url,
        exclude=exclude,
        screens=(mask_identifiers, screen_report, annotate_labels),
        images=images,
        replace=replace,
        progress=progress,
    )
