"""Image or text -> the nearest reports, without those of the same study or patient.

`ReportRetriever` is a LangChain retriever for text queries; `retrieve` is the same for an image's
vector, which LangChain's interface has no word for. Knows nothing of prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from encoders.base import embeds_texts
from rag.errors import UsageError
from rag.index import ReportIndex
from rag.index.search import numbered
from rag.predicted_findings import NO_PREDICTION, PredictedFindings
from rag.rank_fusion import fuse
from rag.reranking import cover_expected, order_by_agreement
from rag.schema import Hit, Retrieval
from rag.settings import RetrievalSettings


@dataclass(frozen=True, slots=True, eq=False)
class ImageQuery:
    """What an image asks of the index.

    Attributes:
        vector: float32 [dim], norm 1.
        predicted: what its own labels expect.
        studies, patients: ids whose reports must not come back.
        reports: report ids the reader called irrelevant.
    """

    vector: NDArray[np.float32]
    predicted: PredictedFindings = NO_PREDICTION
    studies: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    reports: frozenset[str] = frozenset()


class ReportRetriever(BaseRetriever):
    """Evidence for an image, or the nearest reports to a text; equal texts count once.

    Attributes:
        store: where the reports are.
        encoder: embeds what is asked; one that embeds images alone answers no text.
        settings: which steps are on.
        k: how many reports, if not the settings' ``k``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    store: ReportIndex
    encoder: Any  # an ImageEncoder; pydantic cannot check a Protocol
    settings: RetrievalSettings = RetrievalSettings()
    k: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _can_embed(self) -> "ReportRetriever":
        if self.by != "image" and not embeds_texts(self.encoder):
            raise UsageError(
                f"retrieval.by is {self.by!r}, and {self.encoder.encoder_id} embeds images only: "
                'leave it at "auto" or set "image"'
            )
        return self

    @property
    def by(self) -> Literal["text", "image", "both"]:
        """What an image is compared with."""
        if self.settings.by == "auto":
            return "text" if embeds_texts(self.encoder) else "image"
        return self.settings.by

    def retrieve(self, query: ImageQuery, *, k: int | None = None) -> Retrieval:
        """Evidence for an image, best first, with the same study and patient left out.

        Args:
            query: the image's vector and labels, and what must stay out.
            k: how many reports, by default the retriever's own or the settings'.
        """
        chosen, k = self.settings, k or self.k or self.settings.k
        count = max(k, chosen.fetch_k)
        if self.by == "image":
            found = self.store.retrieve_by_images(query.vector, count, **_excluded(query))
        else:
            (found,) = self.store.retrieve(query.vector[np.newaxis], count, **_excluded(query))
        pool: Sequence[Hit] = found.hits
        if self.by == "both":
            pool = self._fused_with_images(found.hits, query, count)
        hits = order_by_agreement(pool, query.predicted, weight=chosen.label_penalty)
        if chosen.cover_expected:
            hits = cover_expected(hits, query.predicted, k=k)
        return Retrieval(numbered(hits[:k]), found.excluded, tuple(pool))

    def _fused_with_images(
        self, nearest: Sequence[Hit], query: ImageQuery, count: int
    ) -> list[Hit]:
        """As many hits, in the order that report and image neighbours agree on.

        Their similarity stays that of image and report, whatever found them.
        """
        by_images = self.store.retrieve_by_images(
            query.vector, count, similarity="text", **_excluded(query)
        ).hits
        hits = {hit.record.report_id: hit for hit in (*by_images, *nearest)}
        rankings = [[hit.record.report_id for hit in of] for of in (nearest, by_images)]
        return [hits[report_id] for report_id in fuse(rankings)[:count]]

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return [to_document(hit) for hit in self.nearest_to_text(query, k=k)]

    def nearest_to_text(self, text: str, *, k: int | None = None) -> list[Hit]:
        """The reports nearest to words, best first.

        Raises:
            UsageError: the encoder embeds images only.
        """
        if not embeds_texts(self.encoder):
            raise UsageError(
                f"{self.encoder.encoder_id} embeds images only and cannot search by words: ask "
                "with an image"
            )
        (hits,) = self.store.query(self.encoder.embed_texts([text]), k or self.k or self.settings.k)
        return hits


class _Exclusions(TypedDict):
    exclude_studies: frozenset[str]
    exclude_patients: frozenset[str]
    exclude_reports: frozenset[str]


def _excluded(query: ImageQuery) -> _Exclusions:
    """What a query leaves out, as the index's arguments."""
    return {
        "exclude_studies": query.studies,
        "exclude_patients": query.patients,
        "exclude_reports": query.reports,
    }


def to_document(hit: Hit) -> Document:
    """A hit as LangChain passes evidence around: the text, and what is known of it."""
    record = hit.record
    return Document(
        id=record.report_id,
        page_content=record.text,
        metadata={
            "report_id": record.report_id,
            "study_id": record.study_id,
            "similarity": hit.similarity,
            "copies": hit.copies,
            "labels": list(record.labels),
        },
    )
