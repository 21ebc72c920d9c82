"""From a study to a cited draft, in steps that take and return values.

    images    = load(study)                                  pixels and header, or no chest X-ray
    analysis  = analyzer.analyze(images)                     vectors, predicted findings
    retrieval = retriever.retrieve(vector)                   the most similar reports of others
    draft     = drafter.stream(study, analysis, retrieval)   cited sentences, while they come
    checked   = check(draft, analysis)                       does each stand in what it cites?

A prior, if there is one, is checked before the images are encoded and compared with afterwards.
`ReportPipeline` is a LangChain Runnable around them, and adds what the steps need not know: the
prediction as far as it has come, the time each took, and what a failure becomes. The first three
need a processor, the last two mostly wait: `prepare` and `finish` are the halves that a batch runs
apart. What can go wrong is a prediction with status "failed", the error's class and a sentence that
says what to do; evidence that was already found stays in it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig

from encoders.base import ImageEncoder
from encoders.images.raw_image import ImageReadError
from rag.change import NO_PRIOR_EVIDENCE, PriorEvidence
from rag.drafting.drafter import Drafter, DraftResult
from rag.errors import CxrRagError, NoDraft
from rag.grounding import DraftCheck, check_draft
from rag.image_analysis import ImageAnalysis, ImageAnalyzer
from rag.metrics import Stopwatch, count_prediction
from rag.prediction import Prediction
from rag.priors import CheckedPrior, check_prior
from rag.retriever import ReportRetriever, exclusions_for
from rag.schema import Draft, Hit, Retrieval, Status
from rag.study import ReaderRegion, Study, StudyImages, load, resolve_study_id, unique


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A study with its evidence, not yet drafted. Holds no pixels; can be pickled.

    Attributes:
        study: as it was asked for.
        prediction: as far as it has come; it has ended where the other two are None.
        analysis: what the images show.
        retrieval: what a draft may rest on.
    """

    study: Study
    prediction: Prediction
    analysis: ImageAnalysis | None = None
    retrieval: Retrieval | None = None


class ReportPipeline(Runnable[Study, Prediction]):
    """Load, analyze, retrieve, draft, check.

    Args:
        analyzer, retriever, drafter: the parts; `rag.factory` makes them from settings.
    """

    def __init__(
        self, *, analyzer: ImageAnalyzer, retriever: ReportRetriever, drafter: Drafter
    ) -> None:
        self.analyzer = analyzer
        self.retriever = retriever
        self.drafter = drafter

    def prepare(self, study: Study) -> Prepared:
        """The first half: everything up to the evidence. Never raises for what an image is."""
        known, clock = self.start_prediction(study), Stopwatch()
        try:
            with clock.stage("read"):
                images = load(study)
            known = replace(known, study_id=resolve_study_id(study, images.info))
            prior = CheckedPrior()
            if study.prior:
                with clock.stage("prior"):
                    prior = check_prior(study.prior, images.info)
            with clock.stage("encode"):
                analysis = self.analyzer.analyze(images, region=study.region)
            known = replace(
                known, predicted=analysis.predicted, maps=analysis.maps, warnings=analysis.notes
            )
            if study.prior:
                with clock.stage("prior"):
                    compared, notes = self.analyzer.compare(prior, analysis)
                warnings = unique((*known.warnings, *notes))
                known = replace(known, prior=compared, warnings=warnings)
            with clock.stage("retrieve"):
                retrieval = self._retrieve(study, images, analysis, prior)
        except (CxrRagError, ImageReadError) as error:
            return Prepared(study, _ended(known, error, clock))
        known = replace(known, hits=retrieval.hits, seconds=clock.seconds)
        return Prepared(study, known, analysis, retrieval)

    def finish(self, prepared: Prepared) -> Prediction:
        """The second half: draft and check, if there is something to draft from."""
        *_, last = self._finishing(prepared)
        return last

    def _finishing(self, prepared: Prepared) -> Iterator[Prediction]:
        """Snapshots of the second half; the last is the prediction."""
        known, analysis, retrieval = prepared.prediction, prepared.analysis, prepared.retrieval
        if analysis is None or retrieval is None:
            yield known
            return
        clock = Stopwatch(known.seconds)
        try:
            with clock.stage("generate"):
                for draft in self.drafter.stream(
                    prepared.study, analysis, retrieval, known.prior or NO_PRIOR_EVIDENCE
                ):
                    known = _with_draft(known, draft)
                    yield known
            with clock.stage("check"):
                checked = check(draft, analysis, known.prior)
        except CxrRagError as error:
            yield _ended(known, error, clock)
        else:
            yield replace(known, check=checked, status=Status.OK, seconds=clock.seconds)

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
        """Snapshots, each more complete than the one before; the last is the prediction."""
        yield self.start_prediction(input)
        prepared = self.prepare(input)
        if prepared.retrieval is not None:
            yield prepared.prediction
        yield from map(count_prediction, self._finishing(prepared))

    def search_regions(
        self, study: Study, regions: Sequence[ReaderRegion]
    ) -> list[tuple[tuple[Hit, ...], str]]:
        """What would be found with each of several regions; the image is read and encoded once.

        Returns:
            Hits, and the finding that the region steered the search to ("" for none).

        Raises:
            ImageReadError, NoDraft: it cannot be read, or is no chest X-ray.
            PriorMismatchError, UsageError: the prior is not the patient's, or cannot be used.
        """
        images = load(study)
        prior = check_prior(study.prior, images.info) if study.prior else CheckedPrior()
        analysis = self.analyzer.analyze(images)
        steered = [self.analyzer.steer_to_region(region, analysis, images) for region in regions]
        return [
            (self._retrieve(study, images, each, prior).hits, each.region_finding)
            for each in steered
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
        """What turns images into vectors."""
        return self.analyzer.encoder

    @property
    def provenance(self) -> dict[str, str]:
        """What all its predictions have in common: encoder, index, model and prompt."""
        return {
            "encoder_id": self.encoder.encoder_id,
            "index_id": self.retriever.index.index_id,
            **self.drafter.provenance,
        }

    def start_prediction(self, study: Study) -> Prediction:
        """The prediction of a study of which nothing is known yet."""
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


def check(
    draft: DraftResult, analysis: ImageAnalysis, prior: PriorEvidence | None = None
) -> DraftCheck:
    """A verdict on each sentence, by the reports it cites, the prior and the image's findings."""
    labels = analysis.predicted.probabilities
    return check_draft(
        draft.draft, draft.hits, image_labels=labels, prior=prior.report if prior else ""
    )


def _with_draft(prediction: Prediction, result: DraftResult) -> Prediction:
    return replace(
        prediction,
        draft=result.draft,
        hits=result.hits,
        hints=result.hints,
        variables=result.variables,
        answer=result.answer,
        messages=result.messages,
        prompt_hash=result.prompt_hash,
        warnings=unique((*prediction.warnings, *result.notes)),
    )


def _ended(
    prediction: Prediction, error: CxrRagError | ImageReadError, clock: Stopwatch
) -> Prediction:
    """A prediction without a draft: it failed, or it is right that there is none."""
    return replace(
        prediction,
        status=Status.ABSTAINED if isinstance(error, NoDraft) else Status.FAILED,
        error=type(error).__name__,
        reason=str(error),
        warnings=unique((*prediction.warnings, *getattr(error, "notes", ()))),
        draft=Draft(),
        seconds=clock.seconds,
    )
