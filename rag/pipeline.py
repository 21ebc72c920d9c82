"""One study from file to cited draft: composition, nothing else.

`ReportPipeline` is a LangChain Runnable. ``invoke`` gives the finished prediction, ``stream`` gives
one snapshot after each step (image read, evidence found, each time the draft grows) and the
finished
prediction last, ``batch`` does several studies side by side. What can go wrong is a prediction with
status "failed", the error's class and a sentence that says what to do; evidence that was already
found stays in it.

Two halves can be called on their own, for many studies at once: `prepare` (read, embed, retrieve,
render) needs a processor, `finish` (ask, check) mostly waits.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.utils.json import parse_partial_json
from numpy.typing import NDArray

from encoders.base import ImageTextEncoder
from encoders.images.image_info import ImageInfo
from encoders.images.image_io import ImageReadError
from encoders.region_query import RegionQuery
from prompts.render import PromptTemplate, render
from rag.drafting import DraftRequest, build_request, parse_response
from rag.errors import CxrRagError, LlmOutputError
from rag.grounding import check_draft
from rag.image_analysis import ImageAnalysis, ImageAnalyzer
from rag.llm.client import Completion, Messages
from rag.predicted_findings import PredictedFindings
from rag.prediction import Prediction
from rag.region import ReaderRegion
from rag.retriever import ImageQuery, ReportRetriever
from rag.schema import Draft, Hit, Status
from rag.screening.abstention import confidence_of, no_ground
from rag.screening.finding_head import FindingHead
from rag.screening.out_of_distribution import OodDetector
from rag.settings import AbstentionSettings
from rag.study import Study, Work

logger = logging.getLogger(__name__)


class LanguageModel(Protocol):
    """What the pipeline asks: `rag.llm.client.ChatClient`, or several behind one face."""

    @property
    def model(self) -> str:
        """Name of the model."""

    def ask(self, messages: Messages, *, schema: dict[str, Any]) -> Completion:
        """The whole answer, or an `rag.errors.LlmError`."""

    def stream(
        self, messages: Messages, *, schema: dict[str, Any]
    ) -> Iterator[tuple[str, Completion | None]]:
        """The answer as far as it has come, each time it grows; last with the completion."""


class ReportPipeline(Runnable[Study, Prediction]):
    """Read, embed, retrieve, ask, check.

    Args:
        encoder, retriever, template, llm: the parts.
        finding_head: predicts the image's labels; None where the encoder has none.
        ood_detector: refuses images whose pixels are strange (the encoder must show its features);
        None
            where none is calibrated.
        steering: how a region of the reader's acts on the search; a crop by default.
        abstention: when there is no ground for a draft.
    """

    def __init__(
        self,
        *,
        encoder: ImageTextEncoder,
        retriever: ReportRetriever,
        template: PromptTemplate,
        llm: LanguageModel,
        finding_head: FindingHead | None = None,
        ood_detector: OodDetector | None = None,
        steering: RegionQuery | None = None,
        abstention: AbstentionSettings = AbstentionSettings(),  # noqa: B008 - frozen
    ) -> None:
        self.encoder = encoder
        self.analyzer = ImageAnalyzer(
            encoder, finding_head=finding_head, ood_detector=ood_detector, steering=steering
        )
        self.retriever = retriever
        self.template = template
        self.llm = llm
        self.abstention = abstention

    def invoke(
        self,
        input: Study,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Prediction:
        """The finished prediction."""
        *_, last = self.stream(input, config, **kwargs)
        return last

    def stream(
        self,
        input: Study,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any | None,
    ) -> Iterator[Prediction]:
        """Snapshots, each more complete than the one before; the last is the prediction."""
        work = self.begin(input)
        for steps in (self._preparing(input, work), self._finishing(work)):
            for _ in _guarded(work, steps):
                yield work.latest
        yield work.done()

    def prepare(self, study: Study) -> Work:
        """The first half: everything up to the question. Never raises for what an image is."""
        work = self.begin(study)
        for _ in _guarded(work, self._preparing(study, work)):
            pass
        return work

    def finish(self, work: Work) -> Prediction:
        """The second half: ask and check, if there is something to ask."""
        for _ in _guarded(work, self._finishing(work)):
            pass
        return work.done()

    def begin(self, study: Study) -> Work:
        """A study before its first step."""
        return Work(
            Prediction(
                file=study.name,
                study_id=study.study_id,
                status=Status.RUNNING,
                encoder_id=self.encoder.encoder_id,
                index_id=self.retriever.store.index_id,
                llm=self.llm.model,
                prompt=self.template.name,
                attention=study.attention.to_json(),
            )
        )

    def evidence(
        self, study: Study, attentions: Sequence[ReaderRegion]
    ) -> tuple[Prediction, list[tuple[Hit, ...]]]:
        """What would be found with each of several regions; the image is read and encoded once.

        Returns:
            The last prediction, which says why where nothing was found; and hits by region, none
            at all where the image was refused or could not be read.
        """
        work, found = self.begin(study), []

        def steps() -> Iterator[None]:
            look = yield from self.analyzer.look(study, work)
            if look is None:
                return
            for attention in attentions:
                self._retrieve(replace(study, attention=attention), look, work)
                found.append(work.latest.hits)

        for _ in _guarded(work, steps()):
            pass
        return work.done(), found

    def _preparing(self, study: Study, work: Work) -> Iterator[None]:
        look = yield from self.analyzer.look(study, work)
        if look is None:
            return
        self._retrieve(study, look, work)
        yield
        self._question(study, look.predicted, work)

    def _retrieve(self, study: Study, look: ImageAnalysis, work: Work) -> None:
        with work.stage("encode"):
            asking = self.analyzer.steered(look, study.attention)
        with work.stage("retrieve"):
            query = _query(study, look.facts, asking, look.predicted)
            hits = self.retriever.retrieve(query).hits
        work.latest = replace(
            work.latest,
            hits=hits,
            labels=look.predicted.probabilities,
            expected=look.predicted.positive,
            confidence=confidence_of(look.predicted),
        )

    def _question(self, study: Study, predicted: PredictedFindings, work: Work) -> None:
        """What to ask, or why not to."""
        hits = work.latest.hits
        if reason := no_ground(hits, predicted, self.abstention):
            work.abstain("NoGround", reason)
            return
        question = build_request(
            self.template.mode, hits, indication=study.indication, predicted=predicted
        )
        prompt = render(self.template, question.variables)
        work.latest = replace(
            work.latest, prompt_hash=prompt.sha256, messages=tuple(prompt.messages)
        )
        work.question = question

    def _finishing(self, work: Work) -> Iterator[None]:
        if work.question is None:
            return
        before = work.latest.warnings
        for answer, draft, notes in self._drafts(work.question, work.latest.messages, work):
            work.latest = replace(work.latest, answer=answer, draft=draft, warnings=before + notes)
            yield
        with work.stage("check"):
            latest = work.latest
            check = check_draft(latest.draft, latest.hits, image_labels=latest.labels)
        work.latest = replace(work.latest, check=check, status=Status.OK)
        yield

    def _drafts(
        self, question: DraftRequest, messages: Messages, work: Work
    ) -> Iterator[tuple[str, Draft, tuple[str, ...]]]:
        """Answer, draft and notes each time it grows, last the whole; one repair if need be."""
        with work.stage("generate"):
            text = ""
            for text, _ in self.llm.stream(messages, schema=question.schema):
                yield text, question.draft(_as_far_as_it_goes(text)), ()
            try:
                yield text, *parse_response(question, text)
            except LlmOutputError as error:
                logger.info("answer was not valid, asking once more")
                repair = [*messages, ("assistant", text), ("user", f"{error}. Answer again.")]
                again = self.llm.ask(repair, schema=question.schema)
                yield again.text, *parse_response(question, again.text)


def _guarded(work: Work, steps: Iterator[None]) -> Iterator[None]:
    """The steps, with their time; a failure that can be explained ends the study, not the run."""
    with work.stage("total"):
        try:
            yield from steps
        except (CxrRagError, ImageReadError) as error:
            logger.warning("study failed: %s", type(error).__name__)
            work.question = None
            work.latest = replace(
                work.latest,
                status=Status.FAILED,
                error=type(error).__name__,
                reason=str(error),
                draft=Draft(),
                check=None,
            )


def _query(
    study: Study, facts: ImageInfo, vectors: NDArray[np.float32], predicted: PredictedFindings
) -> ImageQuery:
    """The mean of the views, and whose reports must not come back."""
    vector = vectors[0] if len(vectors) == 1 else vectors.mean(0)
    return ImageQuery(
        vector=vector / max(float(np.linalg.norm(vector)), 1e-12),
        predicted=predicted,
        studies=study.study_ids | frozenset(facts.identity.study_ids),
        patients=study.patient_ids | frozenset(filter(None, [facts.identity.patient_id])),
        reports=study.not_relevant,
    )


def _as_far_as_it_goes(text: str) -> dict[str, Any]:
    """The object that the beginning of an answer stands for; empty while there is none."""
    try:
        answer = parse_partial_json(text)
    except json.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
