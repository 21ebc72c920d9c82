"""Evidence -> a cited draft, with a language model or without.

`rag.drafting.slots` has the draft that the pool agrees on, `rag.drafting.requests` the two ways of
asking a model about it. Without a model, and where nothing is left to choose, that draft stands as
it is. Knows no image and no store.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prompts.render import PromptTemplate, render
from rag.change import NO_PRIOR_EVIDENCE, PriorEvidence
from rag.drafting.comparisons import prior_comparisons, with_comparisons
from rag.drafting.requests import (
    DraftInputs,
    DraftRequest,
    as_far_as_it_goes,
    build_request,
    first_choice,
    parse_response,
)
from rag.drafting.slots import hints_for, slots_for
from rag.errors import LlmOutputError, NoGround
from rag.image_analysis import ImageAnalysis
from rag.llm.client import ChatClient
from rag.schema import Draft, Hint, Hit, Retrieval
from rag.settings import AbstentionSettings
from rag.study import Study

logger = logging.getLogger(__name__)

NO_MODEL = "none"
"""What a prediction calls the model where none was asked."""

WITHOUT_MODEL = "drafted without a language model: the sentences that similar reports agree on"

NOTHING_TO_CHOOSE = "the language model was not asked: no sentence has an alternative wording"


@dataclass(frozen=True, slots=True)
class DraftResult:
    """A draft and how it came about.

    Attributes:
        notes: what was taken out of it, and that no model was asked.
        answer: what the model wrote, to the letter.
        messages, prompt_hash, variables: what it was asked; empty where no model was.
        hints: findings below the reporting threshold that are worth a look.
        hits: the reports shown, and those that sentences come from; each cited one is there.
    """

    draft: Draft = field(default_factory=Draft)
    notes: tuple[str, ...] = ()
    answer: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    prompt_hash: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    hints: tuple[Hint, ...] = ()
    hits: tuple[Hit, ...] = ()


@dataclass(slots=True, eq=False)
class Drafter:
    """Drafts from evidence; without a model the draft stands as the pool has it."""

    template: PromptTemplate
    llm: ChatClient | None
    limits: AbstentionSettings = field(default_factory=AbstentionSettings)

    @property
    def provenance(self) -> dict[str, str]:
        """What predictions say of it: the model's name and the template's."""
        if self.llm is None:
            return {"llm": NO_MODEL, "prompt": ""}
        return {"llm": self.llm.model, "prompt": self.template.name}

    def stream(
        self,
        study: Study,
        analysis: ImageAnalysis,
        retrieval: Retrieval,
        prior: PriorEvidence = NO_PRIOR_EVIDENCE,
    ) -> Iterator[DraftResult]:
        """The draft each time it grows, the last time whole.

        Raises:
            NoGround: the evidence is no ground for a draft.
            LlmError: the model cannot be asked, or gave no draft; an answer that cannot be used is
                asked for once more.
        """
        if reason := abstain_reason(retrieval.hits, self.limits):
            raise NoGround(reason)
        predicted, pool = analysis.predicted, retrieval.pool or retrieval.hits
        slots = slots_for(pool, predicted)
        if not slots:
            raise NoGround("no sentence of the similar reports can be stated of this image")
        start = first_choice(slots)
        hints = hints_for(pool, predicted, start)
        comparisons = prior_comparisons(prior, predicted)
        start = with_comparisons(start, comparisons)
        agreed = _with_hits(DraftResult(start, hints=hints), retrieval)
        if self.llm is None:
            yield replace(agreed, notes=(WITHOUT_MODEL,))
            return
        inputs = DraftInputs(
            slots,
            agreed.hits,
            reports=len(pool),
            indication=study.indication,
            predicted=predicted,
            prior=prior.report,
            comparisons=comparisons,
        )
        request = build_request(self.template.mode, inputs)
        if request is None:
            yield replace(agreed, notes=(NOTHING_TO_CHOOSE,))
            return
        for result in self._asked(self.llm, request):
            yield _with_hits(replace(result, hints=hints), retrieval)

    def _asked(self, llm: ChatClient, request: DraftRequest) -> Iterator[DraftResult]:
        """The draft as the answer grows; an answer that is no draft is asked for once more."""
        prompt = render(self.template, request.variables)
        asked = DraftResult(
            messages=prompt.messages, prompt_hash=prompt.sha256, variables=request.variables
        )
        yield asked
        text = ""
        for text in llm.stream(asked.messages, schema=request.schema):
            yield replace(asked, draft=request.draft(as_far_as_it_goes(text)), answer=text)
        try:
            draft, notes = parse_response(request, text)
        except LlmOutputError as error:
            logger.info("answer was not valid, asking once more")
            repair = [*asked.messages, ("assistant", text), ("user", f"{error}. Answer again.")]
            text = llm.ask(repair, schema=request.schema)
            yield replace(asked, answer=text)
            draft, notes = parse_response(request, text)
        draft = with_comparisons(draft, request.comparisons)
        yield replace(asked, draft=draft, notes=notes, answer=text)


def abstain_reason(hits: Sequence[Hit], limits: AbstentionSettings) -> str | None:
    """Why nothing should be drafted, as a sentence; None where something may be.

    What the image does not show clearly is left unsaid rather than the whole draft withheld.
    """
    nearest = max((hit.similarity for hit in hits), default=None)
    if nearest is None:
        return "no report is left to draft from"
    if nearest < limits.similarity:
        return (
            f"no report is similar to this image: the nearest has similarity {nearest:.2f}, "
            f"below {limits.similarity:.2f}"
        )
    return None


def _with_hits(result: DraftResult, retrieval: Retrieval) -> DraftResult:
    """The result with the reports to show: the retrieved, and what sentences come from."""
    shown = {hit.record.report_id for hit in retrieval.hits}
    hinted = (hint.sentence for hint in result.hints)
    sentences = (*result.draft.findings, *result.draft.impression, *hinted)
    cited = {source for sentence in sentences for source in sentence.sources}
    further = (
        replace(hit, why="a sentence comes from it")
        for hit in retrieval.pool
        if hit.record.report_id in cited - shown
    )
    return replace(result, hits=(*retrieval.hits, *further))
