"""Image or text -> the nearest reports, without those of the same study or patient.

`ReportRetriever` is a LangChain retriever for text queries; `retrieve` is the same for an image's
vector, which LangChain's interface has no word for. Knows nothing of prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from encoders.base import ImageTextEncoder
from rag.diversify import cut_at_drop, diversify
from rag.predicted_findings import NO_PREDICTION, PredictedFindings
from rag.rank_fusion import fuse
from rag.reranking import cover_expected, order_by_agreement
from rag.schema import Hit, Retrieval
from rag.settings import RetrievalSettings
from rag.store import ReportStore
from rag.store.side import Kind


@dataclass(frozen=True, slots=True, eq=False)
class ImageQuery:
    """What an image asks of the store.

    Attributes:
        vector: float32 [dim], norm 1.
        predicted: what its own labels expect.
        studies, patients: ids whose reports must not come back.
        reports: report ids the reader called irrelevant.
        indication: why the image was taken, if known.
    """

    vector: NDArray[np.float32]
    predicted: PredictedFindings = NO_PREDICTION
    studies: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    reports: frozenset[str] = frozenset()
    indication: str = ""


class ReportRetriever(BaseRetriever):
    """Evidence for an image, or the nearest reports to a text; equal texts count once.

    Attributes:
        store: where the reports are.
        encoder: embeds what is asked.
        settings: which steps are on.
        k: how many reports, if not the settings' ``k``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    store: ReportStore
    encoder: Any  # an ImageTextEncoder; pydantic cannot check a Protocol
    settings: RetrievalSettings = RetrievalSettings()
    k: int | None = Field(default=None, ge=1)

    def retrieve(self, query: ImageQuery, *, k: int | None = None) -> Retrieval:
        """Evidence for an image, best first, with the same study and patient left out.

        Args:
            query: the image's vector and labels, and what must stay out.
            k: how many reports, by default the retriever's own or the settings'.
        """
        chosen, k = self.settings, k or self.k or self.settings.k
        found = self._nearest(query.vector, query, max(k, chosen.fetch_k))
        pool: Sequence[Hit] = found.hits
        asked_in_words = chosen.indication and query.indication.strip()
        if chosen.unit == "sentence" or chosen.images or asked_in_words:
            pool = self._fused(found.hits, query, max(k, chosen.fetch_k))
        hits = order_by_agreement(pool, query.predicted, weight=chosen.label_penalty)
        if chosen.relevance < 1:
            vectors = self.encoder.embed_texts([hit.record.text for hit in hits])
            first = diversify(hits, vectors, k=k, relevance=chosen.relevance)
            hits = first + [hit for hit in hits if hit not in first]
        if chosen.cover_expected:
            hits = cover_expected(hits, query.predicted, k=k)
        hits = hits[:k]
        if chosen.drop is not None:
            hits = cut_at_drop(hits, drop=chosen.drop)
        ranked = tuple(replace(hit, rank=rank) for rank, hit in enumerate(hits, 1))
        return Retrieval(ranked, found.excluded)

    def _nearest(self, vector: NDArray[np.float32], query: ImageQuery, count: int) -> Retrieval:
        """The reports nearest to a vector, without what the query leaves out."""
        (found,) = self.store.retrieve(vector[np.newaxis], count, distinct=True, **_left_out(query))
        return found

    def _fused(self, nearest: Sequence[Hit], query: ImageQuery, count: int) -> list[Hit]:
        """As many hits, in the order that all the ways to look for reports agree on.

        Their similarity stays that of image and report, whatever found them.
        """
        chosen, left_out = self.settings, _left_out(query)
        rankings = [[hit.record.report_id for hit in nearest]]
        weights = [1.0]
        if chosen.unit == "sentence":
            rankings = [
                self.store.near_beside(Kind.SENTENCES, query.vector, count, **left_out),
            ]
        if chosen.images:
            rankings.append(self.store.near_beside(Kind.IMAGES, query.vector, count, **left_out))
            weights.append(chosen.images)
        if chosen.indication and query.indication.strip():
            (vector,) = self.encoder.embed_texts([query.indication])
            hits = self._nearest(vector, query, count).hits
            rankings.append([hit.record.report_id for hit in hits])
            weights.append(chosen.indication)
        return self.store.hits(fuse(rankings, weights=weights)[:count], query.vector)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        encoder: ImageTextEncoder = self.encoder
        vectors = encoder.embed_texts([query])
        (hits,) = self.store.query(vectors, k or self.k or self.settings.k, distinct=True)
        return [to_document(hit) for hit in hits]


def _left_out(query: ImageQuery) -> dict[str, frozenset[str]]:
    """What a query leaves out, as the store's arguments."""
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
