"""Film or text -> the nearest reports, without those of the same study or patient.

`ReportRetriever` is a LangChain retriever for text queries; `retrieve` is the same for a film's
vector, which LangChain's interface has no word for. Knows nothing of prompts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from numpy.typing import NDArray
from pydantic import ConfigDict

from encoders.base import ImageTextEncoder
from rag.schema import Hit, Retrieval
from rag.store import ReportStore


@dataclass(frozen=True, slots=True, eq=False)
class FilmQuery:
    """What a film asks of the store.

    Attributes:
        vector: float32 [dim], norm 1.
        studies, patients: ids whose reports must not come back.
        reports: report ids the reader called irrelevant.
    """

    vector: NDArray[np.float32]
    studies: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    reports: frozenset[str] = frozenset()


class ReportRetriever(BaseRetriever):
    """The ``k`` nearest reports of a store, nearest first; equal texts count once."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    store: ReportStore
    encoder: Any  # an ImageTextEncoder; pydantic cannot check a Protocol
    k: int = 5

    def retrieve(self, query: FilmQuery, *, k: int | None = None) -> Retrieval:
        """The nearest reports to a film, with the same study and patient left out."""
        (found,) = self.store.retrieve(
            query.vector[np.newaxis],
            k or self.k,
            exclude_studies=query.studies,
            exclude_patients=query.patients,
            exclude_reports=query.reports,
            distinct=True,
        )
        return found

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        encoder: ImageTextEncoder = self.encoder
        (hits,) = self.store.query(encoder.embed_texts([query]), k or self.k, distinct=True)
        return [to_document(hit) for hit in hits]


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
