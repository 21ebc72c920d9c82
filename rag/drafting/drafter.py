"""Evidence -> a cited draft, with or without a language model.

`rag.drafting.slots` finds the consensus, which is the draft if no model is asked;
`rag.drafting.requests` asks a model to choose its wordings or to rewrite it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prompts.render import PromptTemplate, render
from rag.change import NO_PRIOR_EVIDENCE, PriorEvidence
from rag.drafting.comparisons import add_comparisons, prior_comparisons
from rag.drafting.requests import (
    DraftInputs,
    DraftRequest,
    build_request,
    consensus_draft,
    parse_partial,
    parse_response,
)
from rag.drafting.slots import consensus_slots, hints_for
from rag.errors import LlmOutputError, NoGround
from rag.image_analysis import ImageAnalysis
from rag.llm.client import ChatClient
from rag.schema import Draft, Hint, Hit, Retrieval
from rag.settings import AbstentionSettings
from rag.study import Study

logger = logging.getLogger(__name__)

NO_MODEL = "none"
"""The model's name in a prediction that was made without one."""

WITHOUT_MODEL = "drafted without a language model: the sentences that similar reports agree on"

NOTHING_TO_CHOOSE = "the language model was not asked: no sentence has an alternative wording"


@dataclass(frozen=True, slots=True)
class DraftResult:
    """A draft and how it was made.

    Attributes:
        notes: what was removed from it, and whether a model was asked.
        answer: what the model wrote, verbatim.
        messages, prompt_hash, variables: what the model was asked; empty without a model.
        hints: findings below the reporting threshold that deserve a look.
        hits: the retrieved reports and those that sentences come from.
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
    """Drafts from evidence; without a language model, the draft is the consensus."""

    template: PromptTemplate
    llm: ChatClient | None
    limits: AbstentionSettings = field(default_factory=AbstentionSettings)

    @property
    def provenance(self) -> dict[str, str]:
        """Names of the model and of the prompt template, for the prediction."""
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
        """The draft so far, each time it grows; the last is complete.

        Raises:
            NoGround: the evidence is no ground for a draft.
            LlmError: the model cannot be asked, or its answer is no draft, nor is a second one.
        """
        if reason := abstain_reason(retrieval.hits, self.limits):
            raise NoGround(reason)
        predicted, pool = analysis.predicted, retrieval.pool or retrieval.hits
        slots = consensus_slots(pool, predicted)
        if not slots:
            raise NoGround("no sentence of the similar reports can be stated of this image")
        draft = consensus_draft(slots)
        hints = hints_for(pool, predicted, draft)
        comparisons = prior_comparisons(prior, predicted)
        draft = add_comparisons(draft, comparisons)
        consensus = _with_hits(DraftResult(draft, hints=hints), retrieval)
        if self.llm is None:
            yield replace(consensus, notes=(WITHOUT_MODEL,))
            return
        inputs = DraftInputs(
            slots,
            consensus.hits,
            reports=len(pool),
            indication=study.indication,
            predicted=predicted,
            prior=prior.report,
            comparisons=comparisons,
        )
        request = build_request(self.template.mode, inputs)
        if request is None:
            yield replace(consensus, notes=(NOTHING_TO_CHOOSE,))
            return
        for result in self._ask(self.llm, request):
            yield _with_hits(replace(result, hints=hints), retrieval)

    def _ask(self, llm: ChatClient, request: DraftRequest) -> Iterator[DraftResult]:
        """The draft as the answer grows; if the answer is no draft, the model is asked again."""
        prompt = render(self.template, request.variables)
        asked = DraftResult(
            messages=prompt.messages, prompt_hash=prompt.sha256, variables=request.variables
        )
        yield asked
        text = ""
        for text in llm.stream(asked.messages, schema=request.schema):
            yield replace(asked, draft=request.draft(parse_partial(text)), answer=text)
        try:
            draft, notes = parse_response(request, text)
        except LlmOutputError as error:
            logger.info("the answer was not valid, asking once more")
            repair = [*asked.messages, ("assistant", text), ("user", f"{error}. Answer again.")]
            text = llm.ask(repair, schema=request.schema)
            yield replace(asked, answer=text)
            draft, notes = parse_response(request, text)
        draft = add_comparisons(draft, request.comparisons)
        yield replace(asked, draft=draft, notes=notes, answer=text)


def abstain_reason(hits: Sequence[Hit], limits: AbstentionSettings) -> str | None:
    """Why nothing should be drafted from this evidence; None if something may be."""
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
    """The result with the retrieved reports and all others that its sentences cite."""
    retrieved = {hit.record.report_id for hit in retrieval.hits}
    hinted = (hint.sentence for hint in result.hints)
    sentences = (*result.draft.findings, *result.draft.impression, *hinted)
    cited = {source for sentence in sentences for source in sentence.sources}
    others = (
        replace(hit, why="added because a sentence cites it")
        for hit in retrieval.pool
        if hit.record.report_id in cited - retrieved
    )
    return replace(result, hits=(*retrieval.hits, *others))
