"""The step of the pipeline that reads a prior and compares: between loading and retrieving."""

from encoders.images.image_info import ImageInfo
from encoders.images.raw_image import ImageReadError
from rag.change import ChangeModel, PriorEvidence, changes
from rag.errors import NoDraft
from rag.image_analysis import ImageAnalysis, ImageAnalyzer
from rag.predicted_findings import NO_PREDICTION
from rag.priors import CheckedPrior, Prior, check_prior, read_prior
from rag.study import Study, load

NO_CHANGE_MODEL = (
    "changes since the prior cannot be assessed: this encoder has no change.json (docs/priors.md)"
)


def read_and_check(prior: Prior, current: ImageInfo) -> CheckedPrior:
    """What was given as the prior of an image, once it is known to be the patient's.

    Raises:
        PriorMismatchError, UsageError, ImageReadError: see `rag.priors`.
    """
    if prior.files:
        prior = read_prior(prior.files, current=current, day=prior.date, report=prior.report)
    return check_prior(prior, current) if prior else CheckedPrior()


def compare(
    prior: CheckedPrior,
    current: ImageAnalysis,
    analyzer: ImageAnalyzer,
    model: ChangeModel | None,
) -> tuple[PriorEvidence, tuple[str, ...]]:
    """What a prior tells beside the current images, and what the reader should know of it."""
    notes, before, read = [*prior.notes], NO_PREDICTION, 0
    if prior.images:
        frontal, *further = prior.images
        try:
            images = load(Study(source=frontal, name="prior", further=tuple(further)))
            before, read = analyzer.analyze(images).predicted, len(images.views)
        except (NoDraft, ImageReadError) as error:
            notes.append(f"the prior's image was not used: {error}")
    if model is None:
        notes.append(NO_CHANGE_MODEL)
    found = changes(prior.report, before, current.predicted, model)
    return PriorEvidence(prior.report, read, prior.days_before, found), tuple(notes)
