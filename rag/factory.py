"""Settings -> the parts of the product, an index. The one place that knows them all.

What only a query or a draft needs is imported there: a second that indexing does without.
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
    """The encoder that ``settings.encoder`` names.

    Raises:
        EncoderUnavailableError: weights are missing, damaged, or need a package.
    """
    try:
        return registry.load_encoder(settings.encoder, backend=settings.encoder_backend)
    except EncoderError as error:
        raise EncoderUnavailableError(str(error)) from error


def encoder_folder(settings: Settings, encoder: ImageEncoder) -> Path:
    """Where the parts lie that were trained on an encoder's vectors.

    What `cxr-rag fit-heads` made here; else the model's own folder.
    """
    own = fitted_folder(settings, encoder)
    return own if own.is_dir() else registry.eclip_folder(settings.encoder) or own


def fitted_folder(settings: Settings, encoder: ImageEncoder) -> Path:
    """Where `cxr-rag fit-heads` puts them: one folder for each encoder's weights."""
    return settings.home / "encoders" / encoder.encoder_id


@contextmanager
def open_retriever(settings: Settings, encoder: ImageEncoder) -> Iterator["ReportRetriever"]:
    """Encoder and index, ready for queries; the index is closed at the end."""
    from rag.retriever import ReportRetriever  # noqa: PLC0415

    with ReportIndex(settings.index_dir, encoder=encoder, url=settings.chroma_url) as store:
        yield ReportRetriever(index=store, encoder=encoder, settings=settings.retrieval)


@contextmanager
def open_pipeline(settings: Settings, encoder: ImageEncoder) -> Iterator["ReportPipeline"]:
    """The whole line from image to draft; the language model is only asked when a study comes.

    Raises:
        UsageError: ``llm.template`` names no template.
        StoreError: no store, or one of another encoder.
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
    drafter = Drafter(template_of(settings), llm, limits=settings.abstention)
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
    """Where the prompt templates are."""
    return settings.prompt_dir or TEMPLATES


def template_of(settings: Settings) -> PromptTemplate:
    """The template that ``llm.template`` names.

    Raises:
        UsageError: there is none of that name, or it is broken.
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
    """Make the index of the settings equal to a collection, screened as every index is.

    Names and dates are masked, words that speak to a language model withheld, and what each report
    states is noted in its record.

    Args:
        settings: where the index is.
        corpus: the reports.
        encoder: embeds them.
        exclude: studies to leave out.
        images: image files by study, to retrieve reports by.
        replace: start over where the index is another encoder's or is damaged.
        progress: told how far it is.

    Raises:
        StoreError: see `rag.index.build_index`.
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
