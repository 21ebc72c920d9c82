"""From a study to a cited draft, in steps that take and return values.

    images    = load(study)                                       pixels and header, or a refusal
    analysis  = analyzer.analyze(images)                          vectors, predicted findings
    retrieval = retriever.retrieve(vector, predicted, exclude)    reports of similar studies
    result    = drafter.stream(study, analysis, retrieval)        cited sentences, as they grow
    check     = check_draft(result.draft, result.hits)            does the evidence support each?

A prior study is checked before the images are encoded and compared with them afterwards.
`ReportPipeline` runs the steps as a LangChain Runnable, times each, and turns an error into a
failed prediction that keeps the evidence found so far. A batch runs its two halves apart: `prepare`
needs a processor, `finish` mostly waits for the language model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

from encoders.base import ImageEncoder
from encoders.images.raw_image import ImageReadError
from rag.change import NO_PRIOR_EVIDENCE
from rag.drafting.drafter import Drafter, DraftResult
from rag.errors import CxrRagError, NoDraft
from rag.grounding import check_draft
from rag.image_analysis import ImageAnalysis, ImageAnalyzer
from rag.metrics import Stopwatch, count_prediction
from rag.prediction import Prediction
from rag.priors import CheckedPrior, check_prior
from rag.retriever import ReportRetriever, exclusions_for
from rag.schema import Draft, Hit, Retrieval, Status
from rag.study import ReaderRegion, Study, StudyImages, load, resolve_study_id, unique


@dataclass(frozen=True, slots=True, eq=False)
class PreparedStudy:
    """A study with its evidence, ready to be drafted. Holds no pixels; can be pickled.

    Attributes:
        prediction: the prediction so far; final if the study failed, which has no retrieval.
        analysis: what the images show.
        retrieval: the evidence for a draft.
    """

    study: Study
    prediction: Prediction
    analysis: ImageAnalysis | None = None
    retrieval: Retrieval | None = None


class ReportPipeline(Runnable[Study, Prediction]):
    """Load, analyze, retrieve, draft, check; `rag.factory` makes one from settings."""

    def __init__(
        self, *, analyzer: ImageAnalyzer, retriever: ReportRetriever, drafter: Drafter
    ) -> None:
        self.analyzer = analyzer
        self.retriever = retriever
        self.drafter = drafter

    def prepare(self, study: Study) -> PreparedStudy:
        """Load, analyze and retrieve; an error becomes a failed prediction."""
        prediction, clock = self.start_prediction(study), Stopwatch()
        prior = CheckedPrior()
        try:
            with clock.stage("read"):
                images = load(study)
            prediction = replace(prediction, study_id=resolve_study_id(study, images.info))
            if study.prior:
                with clock.stage("prior"):
                    prior = check_prior(study.prior, images.info)
            with clock.stage("encode"):
                analysis = self.analyzer.analyze(images, region=study.region)
            prediction = _add_analysis(prediction, analysis)
            if study.prior:
                with clock.stage("prior"):
                    evidence, notes = self.analyzer.compare(prior, analysis)
                prediction = _add_warnings(replace(prediction, prior=evidence), notes)
            with clock.stage("retrieve"):
                retrieval = self._retrieve(study, images, analysis, prior)
        except (CxrRagError, ImageReadError) as error:
            return PreparedStudy(study, _fail(prediction, error, clock))
        prediction = replace(prediction, hits=retrieval.hits, seconds=clock.seconds)
        return PreparedStudy(study, prediction, analysis, retrieval)

    def finish(self, prepared: PreparedStudy) -> Prediction:
        """Draft and check, unless the study has failed."""
        *_, last = self._stream_finish(prepared)
        return last

    def _stream_finish(self, prepared: PreparedStudy) -> Iterator[Prediction]:
        """Draft and check; yields the prediction so far, each time the draft grows."""
        prediction, analysis, retrieval = prepared.prediction, prepared.analysis, prepared.retrieval
        if analysis is None or retrieval is None:
            yield prediction
            return
        prior, clock = prediction.prior or NO_PRIOR_EVIDENCE, Stopwatch(prediction.seconds)
        try:
            with clock.stage("generate"):
                for result in self.drafter.stream(prepared.study, analysis, retrieval, prior):
                    prediction = _add_draft(prediction, result)
                    yield prediction
            with clock.stage("check"):
                check = check_draft(
                    result.draft,
                    result.hits,
                    image_labels=analysis.predicted.probabilities,
                    prior=prior.report,
                )
        except CxrRagError as error:
            yield _fail(prediction, error, clock)
        else:
            yield replace(prediction, check=check, status=Status.OK, seconds=clock.seconds)

    def invoke(
        self,
        input: Study,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Prediction:
        """The finished prediction."""
        return count_prediction(self.finish(self.prepare(input)))

    def stream(
        self,
        input: Study,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> Iterator[Prediction]:
        """The prediction so far, each time it grows; the last is finished."""
        yield self.start_prediction(input)
        prepared = self.prepare(input)
        if prepared.retrieval is not None:
            yield prepared.prediction
        yield from map(count_prediction, self._stream_finish(prepared))

    def search_regions(
        self, study: Study, regions: Sequence[ReaderRegion]
    ) -> list[tuple[tuple[Hit, ...], str]]:
        """Search with each of several regions; the images are read and encoded once.

        Returns:
            For each region the hits, and the finding that it steered the search to ("" for none).

        Raises:
            ImageReadError, NoDraft: it cannot be read, or is not a chest X-ray.
            PriorMismatchError, UsageError: the prior is another patient's, or cannot be used.
        """
        images = load(study)
        prior = check_prior(study.prior, images.info) if study.prior else CheckedPrior()
        analysis = self.analyzer.analyze(images)
        analyses = [self.analyzer.steer_to_region(region, analysis, images) for region in regions]
        return [
            (self._retrieve(study, images, steered, prior).hits, steered.region_finding)
            for steered in analyses
        ]

    def _retrieve(
        self, study: Study, images: StudyImages, analysis: ImageAnalysis, prior: CheckedPrior
    ) -> Retrieval:
        exclude = exclusions_for(study, images.info, self.retriever.index, prior=prior)
        return self.retriever.retrieve(
            analysis.query_vector, predicted=analysis.predicted, exclude=exclude
        )

    @property
    def encoder(self) -> ImageEncoder:
        """The encoder of images and queries."""
        return self.analyzer.encoder

    @property
    def provenance(self) -> dict[str, str]:
        """Encoder, index, model and prompt, as recorded in every prediction."""
        return {
            "encoder_id": self.encoder.encoder_id,
            "index_id": self.retriever.index.index_id,
            **self.drafter.provenance,
        }

    def start_prediction(self, study: Study) -> Prediction:
        """The prediction of a study before its images are read."""
        provenance = self.provenance
        return Prediction(
            file=study.name,
            study_id=resolve_study_id(study),
            status=Status.RUNNING,
            encoder_id=provenance["encoder_id"],
            index_id=provenance["index_id"],
            llm=provenance["llm"],
            prompt=provenance["prompt"],
            region=study.region.to_json(),
        )


def _add_analysis(prediction: Prediction, analysis: ImageAnalysis) -> Prediction:
    return replace(
        prediction, predicted=analysis.predicted, maps=analysis.maps, warnings=analysis.notes
    )


def _add_warnings(prediction: Prediction, notes: Sequence[str]) -> Prediction:
    return replace(prediction, warnings=unique((*prediction.warnings, *notes)))


def _add_draft(prediction: Prediction, result: DraftResult) -> Prediction:
    prediction = replace(
        prediction,
        draft=result.draft,
        hits=result.hits,
        hints=result.hints,
        variables=result.variables,
        answer=result.answer,
        messages=result.messages,
        prompt_hash=result.prompt_hash,
    )
    return _add_warnings(prediction, result.notes)


def _fail(
    prediction: Prediction, error: CxrRagError | ImageReadError, clock: Stopwatch
) -> Prediction:
    """The prediction without a draft: failed, or rightly abstained."""
    prediction = replace(
        prediction,
        status=Status.ABSTAINED if isinstance(error, NoDraft) else Status.FAILED,
        error=type(error).__name__,
        reason=str(error),
        draft=Draft(),
        seconds=clock.seconds,
    )
    return _add_warnings(prediction, getattr(error, "notes", ()))
