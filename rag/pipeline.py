"""One study from file to cited draft: composition, nothing else.

`ReportPipeline` is a LangChain Runnable. ``invoke`` gives the finished prediction, ``stream`` gives
one snapshot after each step (film read, evidence found, each time the draft grows) and the finished
prediction last, ``batch`` does several studies side by side. What can go wrong is a prediction with
status "failed", the error's class and a sentence that says what to do; evidence that was already
found stays in it.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.utils.json import parse_partial_json

from encoders.base import ImageTextEncoder
from encoders.image_io import BLANK, ImageReadError, read_header_identity, read_image
from prompts.render import PromptTemplate, render
from rag.drafting import Question, question_for, read_answer
from rag.errors import CxrRagError, LlmOutputError
from rag.grounding import check_draft
from rag.llm import ChatClient, Messages
from rag.prediction import Prediction
from rag.retriever import FilmQuery, ReportRetriever
from rag.schema import Draft, Status

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Study:
    """One study to report.

    Attributes:
        source: the film, as a file or as its bytes.
        name: what the prediction calls the film ("file").
        study_id: what the prediction calls the study.
        study_ids, patient_ids: never to be retrieved; ids in a DICOM header are added to them.
        indication: why the film was taken, if known.
        not_relevant: report ids the reader ruled out.
    """

    source: Path | bytes
    name: str
    study_id: str = ""
    study_ids: frozenset[str] = frozenset()
    patient_ids: frozenset[str] = frozenset()
    indication: str = ""
    not_relevant: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Clock:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - started


class ReportPipeline(Runnable[Study, Prediction]):
    """Read, embed, retrieve, ask, check."""

    def __init__(
        self,
        *,
        encoder: ImageTextEncoder,
        retriever: ReportRetriever,
        template: PromptTemplate,
        llm: ChatClient,
    ) -> None:
        self.encoder = encoder
        self.retriever = retriever
        self.template = template
        self.llm = llm

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
        clock = _Clock()
        latest = Prediction(
            file=input.name,
            study_id=input.study_id,
            status=Status.RUNNING,
            encoder_id=self.encoder.encoder_id,
            index_id=self.retriever.store.index_id,
            llm=self.llm.model,
            prompt=self.template.name,
        )
        started = time.perf_counter()
        try:
            for snapshot in self._steps(input, latest, clock):
                latest = snapshot
                yield latest
        except (CxrRagError, ImageReadError) as error:
            logger.warning("study failed: %s", type(error).__name__)
            latest = replace(
                latest,
                status=Status.FAILED,
                error=type(error).__name__,
                reason=str(error),
                draft=Draft(),
                check=None,
            )
        clock.seconds["total"] = time.perf_counter() - started
        yield replace(latest, seconds=clock.seconds)

    def _steps(self, study: Study, latest: Prediction, clock: _Clock) -> Iterator[Prediction]:
        with clock.stage("read"):
            image = read_image(study.source, name=study.name)
            identity = read_header_identity(study.source)
        latest = replace(latest, warnings=image.warnings)
        yield latest
        if BLANK in image.warnings:
            yield replace(latest, status=Status.ABSTAINED, error="BlankFilm", reason=BLANK)
            return
        with clock.stage("encode"):
            vector = self.encoder.embed_images([image])[0]
        with clock.stage("retrieve"):
            query = FilmQuery(
                vector=vector,
                studies=study.study_ids | frozenset(identity.study_ids),
                patients=study.patient_ids | frozenset(filter(None, [identity.patient_id])),
                reports=study.not_relevant,
            )
            hits = self.retriever.retrieve(query).hits
        latest = replace(latest, hits=hits)
        yield latest
        question = question_for(self.template.mode, hits, indication=study.indication)
        prompt = render(self.template, question.variables)
        latest = replace(latest, prompt_hash=prompt.sha256, messages=prompt.messages)
        for draft, notes in self._drafts(question, prompt.messages, clock):
            latest = replace(latest, draft=draft, warnings=image.warnings + notes)
            yield latest
        with clock.stage("check"):
            check = check_draft(latest.draft, hits)
        yield replace(latest, check=check, status=Status.OK)

    def _drafts(
        self, question: Question, messages: Messages, clock: _Clock
    ) -> Iterator[tuple[Draft, tuple[str, ...]]]:
        """Draft and notes each time the answer grows, last the whole one; one repair if need be."""
        with clock.stage("generate"):
            text = ""
            for text, _ in self.llm.stream(messages, schema=question.schema):
                yield question.draft(_as_far_as_it_goes(text)), ()
            try:
                yield read_answer(question, text)
            except LlmOutputError as error:
                logger.info("answer was not valid, asking once more")
                repair = [*messages, ("assistant", text), ("user", f"{error}. Answer again.")]
                again = self.llm.ask(repair, schema=question.schema)
                yield read_answer(question, again.text)


def _as_far_as_it_goes(text: str) -> dict[str, Any]:
    """The object that the beginning of an answer stands for; empty while there is none."""
    try:
        answer = parse_partial_json(text)
    except json.JSONDecodeError:
        return {}
    return answer if isinstance(answer, dict) else {}
