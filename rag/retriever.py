"""Image or text -> the nearest reports, without those of the same study or patient.

`ReportRetriever` is a LangChain retriever for text queries; `retrieve` is the same for an image's
vector, which LangChain's interface has no word for. The nearest reports are mostly normal ones, as
most images are, so the image's own predicted labels order a pool of neighbours and make sure that
each expected finding has a report that can speak of it; the idea is LaB-RAG's (Song et al. 2024,
arXiv 2411.16523). Knows nothing of prompts.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, model_validator

from encoders.base import ImageEncoder, embeds_texts
from encoders.images.image_info import ImageInfo
from rag.errors import UsageError
from rag.index import NO_EXCLUSIONS, Exclusions, ReportIndex
from rag.priors import CheckedPrior, expand_folders
from rag.report_nlp.labeller import NO_FINDING
from rag.report_reading import usable_labels
from rag.schema import NO_PREDICTED_FINDINGS, Hit, PredictedFindings, Retrieval
from rag.settings import RetrievalSettings
from rag.study import Study


def exclusions_for(
    study: Study,
    info: ImageInfo,
    index: ReportIndex,
    *,
    prior: CheckedPrior = CheckedPrior(),  # noqa: B008 - frozen
) -> Exclusions:
    """What must not come back for a study: its own exclusions, and what names it or its patient.

    Args:
        study: whose names and paths, and those of its prior, may hold ids of studies and patients.
        info: what the header of its frontal image says.
        index: knows the ids.
        prior: once it is known to be the patient's.
    """
    sources = (study.source, *study.other_views, *expand_folders(study.prior.files))
    names: list[str | Path] = [source for source in sources if isinstance(source, Path)]
    named = map(index.studies_named_in, (*study.aliases, *names))
    return Exclusions(
        studies=study.exclude.studies.union(
            {study.study_id} - {""}, info.study_ids, prior.studies, *named
        ),
        patients=study.exclude.patients.union(filter(None, [info.patient_id]), prior.patients),
        reports=study.exclude.reports,
    )


class ReportRetriever(BaseRetriever):
    """Evidence for an image, or the nearest reports to a text; equal texts count once.

    Attributes:
        index: holds the reports.
        encoder: embeds what is asked; one that embeds images alone answers no text.
        settings: which steps are on.
        k: how many reports, if not the settings' ``k``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    index: ReportIndex
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

    def retrieve(
        self,
        vector: NDArray[np.float32],
        *,
        predicted: PredictedFindings = NO_PREDICTED_FINDINGS,
        exclude: Exclusions = NO_EXCLUSIONS,
        k: int | None = None,
    ) -> Retrieval:
        """Evidence for an image, best first, with the same study and patient left out.

        Args:
            vector: of the image, float32 [dim].
            predicted: what its own labels expect.
            exclude: what must not come back.
            k: how many reports, by default the retriever's own or the settings'.
        """
        k = k or self.k or self.settings.k
        count = max(k, self.settings.fetch_k)
        if self.by == "image":
            pool = self.index.query_by_images(vector, count, exclude=exclude)
        else:
            pool = self.index.query(vector, count, exclude=exclude)
        if self.by == "both":  # whatever found a report, its similarity is that of image and text
            by_images = self.index.query_by_images(
                vector, count, similarity="text", exclude=exclude
            )
            hits = {hit.record.report_id: hit for hit in (*by_images, *pool)}
            rankings = [[hit.record.report_id for hit in of] for of in (pool, by_images)]
            pool = [hits[report_id] for report_id in fuse(rankings)[:count]]
        ordered = order_by_agreement(pool, predicted, weight=self.settings.label_penalty)
        return Retrieval(tuple(cover_expected(ordered, predicted, k=k)), tuple(pool))

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        """As LangChain passes evidence around: each report's text, and what is known of it."""
        return [
            Document(
                id=hit.record.report_id,
                page_content=hit.record.text,
                metadata={
                    "report_id": hit.record.report_id,
                    "study_id": hit.record.study_id,
                    "similarity": hit.similarity,
                    "copies": hit.copies,
                    "labels": list(hit.record.labels),
                },
            )
            for hit in self.nearest_to_text(query, k=k)
        ]

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
        (vector,) = self.encoder.embed_texts([text])
        return self.index.query(vector, k or self.k or self.settings.k)


def order_by_agreement(
    pool: Sequence[Hit], predicted: PredictedFindings, *, weight: float
) -> list[Hit]:
    """Best first, but each label on which a report and the image disagree costs similarity.

    A place in the pool is worth the similarity that the hit there would have if nearness alone had
    ordered it: for a pool that nearness has ordered, each hit's own.

    Args:
        pool: hits, best first.
        predicted: of the image; one that judges no label leaves the order as it is.
        weight: cosine similarity that one disagreement costs.
    """
    expected, judged = set(predicted.positive), set(predicted.probabilities)
    if predicted.normal:
        expected.add(NO_FINDING)

    def worth(place: tuple[float, Hit]) -> float:
        similarity, hit = place
        return similarity - weight * len((usable_labels(hit.record) & judged) ^ expected)

    if not (judged and weight):
        return list(pool)
    similarities = sorted((hit.similarity for hit in pool), reverse=True)
    ordered = sorted(zip(similarities, pool, strict=True), key=worth, reverse=True)
    return [hit for _, hit in ordered]


def cover_expected(pool: Sequence[Hit], predicted: PredictedFindings, *, k: int) -> list[Hit]:
    """The first ``k`` of the pool, some exchanged so that each expected finding is spoken of.

    The last report that is not needed for an expected finding makes room for the first report of
    the pool that states a missing one; where all are needed, it stays missing. What was fetched so
    says it in `Hit.why`.
    """
    chosen = list(pool[:k])
    for label in predicted.positive:
        if any(label in usable_labels(hit.record) for hit in chosen):
            continue
        speaker = next((h for h in pool[k:] if label in usable_labels(h.record)), None)
        idle = [hit for hit in chosen if not _needed(hit, chosen, predicted)]
        if speaker is None or not idle:
            continue
        chosen.remove(idle[-1])
        chosen.append(replace(speaker, why=f"fetched for {label.lower()}"))
    return chosen


def _needed(hit: Hit, chosen: Sequence[Hit], predicted: PredictedFindings) -> bool:
    """Whether it is the only chosen report that states some expected finding."""
    others = [usable_labels(other.record) for other in chosen if other is not hit]
    mine = usable_labels(hit.record) & set(predicted.positive)
    return any(not any(label in other for other in others) for label in mine)


STEADINESS = 60
"""The constant of the paper: the larger, the less the first places count."""


def fuse(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Ids by the sum of 1 / (60 + rank) over all rankings, best first, ties by id.

    Source: Cormack, Clarke & Buettcher, SIGIR 2009.

    Args:
        rankings: report ids, best first; an id may be missing from some.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, report_id in enumerate(ranking, 1):
            scores[report_id] = scores.get(report_id, 0.0) + 1 / (STEADINESS + rank)
    return sorted(scores, key=lambda report_id: (-scores[report_id], report_id))


class EncoderEmbeddings(Embeddings):
    """Embeds texts with the encoder that embeds the images.

    Args:
        encoder: of images and texts.

    Raises:
        UsageError: it embeds images only.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        if not embeds_texts(encoder):
            raise UsageError(f"{encoder.encoder_id} embeds images only: LangChain gives it texts")
        self.encoder = encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A unit vector for each text; an empty text is a ValueError."""
        return [[float(value) for value in row] for row in self.encoder.embed_texts(texts)]

    def embed_query(self, text: str) -> list[float]:
        """The same for one text."""
        return self.embed_documents([text])[0]
