"""The state of one reader's study; every step returns a new one."""

from dataclasses import dataclass, replace

from rag.change import PriorEvidence
from rag.errors import CxrRagError
from rag.grounding import DraftCheck
from rag.prediction import Prediction
from rag.priors import NO_PRIOR, Prior
from rag.region import NO_REGION, ReaderRegion
from rag.review.reviewed_report import ReviewedReport
from rag.schema import Hit, Status
from reading_room.image_panel import ShownImage


class ControllerError(CxrRagError):
    """A step that is not possible now; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Session:
    """One reader's study.

    Attributes:
        images: of one study, frontal first.
        drafted: which of them the draft is made from, and a region is on.
        indication: as it stood when drafted.
        prediction: the pipeline's result so far; None before the first draft.
        report: the draft under review, once it is finished.
        check: verdicts on its sentences.
        history: earlier states of the report, for undo.
        ruled_out: reports the reader called irrelevant.
        region: what the reader marked on the image.
        image_hits: the evidence for the whole image, once it was retrieved.
        region_hits: the evidence for the region, or for the last one after it was cleared.
        region_finding: what the finding maps show in it, towards which the search was drawn.
        draft_id: of the audit record.
        shown_at: clock when the draft was shown, to time edits.
        prior: the patient's own earlier study.
        prior_images: of it, frontal first.
        compared: what the prior tells; None until it has been looked at.
        study: its key in the worklist; empty for images that the reader brought.
    """

    images: tuple[ShownImage, ...] = ()
    drafted: int = 0
    indication: str = ""
    prediction: Prediction | None = None
    report: ReviewedReport | None = None
    check: DraftCheck | None = None
    history: tuple[ReviewedReport, ...] = ()
    ruled_out: frozenset[str] = frozenset()
    region: ReaderRegion = NO_REGION
    image_hits: tuple[Hit, ...] = ()
    region_hits: tuple[Hit, ...] = ()
    region_finding: str = ""
    draft_id: str = ""
    shown_at: float = 0.0
    prior: Prior = NO_PRIOR
    prior_images: tuple[ShownImage, ...] = ()
    compared: PriorEvidence | None = None
    study: str = ""

    @property
    def current_hits(self) -> tuple[Hit, ...]:
        """The evidence as it is now, best first."""
        return self.region_hits if self.region else self.image_hits

    @property
    def evidence(self) -> tuple[Hit, ...]:
        """All reports on the page, each once: the current_hits now, then those retrieved before."""
        own = self.prediction.hits if self.prediction else ()
        found = {hit.record.report_id: hit for hit in (*self.current_hits, *own, *self.image_hits)}
        return tuple(replace(hit, rank=rank) for rank, hit in enumerate(found.values(), 1))

    @property
    def shown(self) -> Prediction | None:
        """The prediction with all reports on the page as its evidence."""
        if self.prediction is None:
            if not self.evidence:
                return None
            return Prediction(file="", status=Status.RUNNING, hits=self.evidence)
        return replace(self.prediction, hits=self.evidence)
