"""Image or text -> the nearest reports, never of the same study or patient.

`ReportRetriever` is a LangChain retriever of text queries; its `retrieve` takes an image's vector,
for which LangChain has no interface. Most near reports are normal, as most images are. Therefore
the image's predicted findings re-rank the neighbours and each predicted finding gets a report that
states it, after LaB-RAG (Song et al. 2024, arXiv 2411.16523).
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
    """What must not be retrieved for a study: what it excludes, itself, its prior and its patient.

    Args:
        study: its names and paths, and those of its prior, may contain study ids of the index.
        info: the header of its frontal image.
        index: knows the ids of its studies.
        prior: of the same patient.
    """
    sources = (study.source, *study.other_views, *expand_folders(study.prior.files))
    names: list[str | Path] = [*study.aliases, *(s for s in sources if isinstance(s, Path))]
    named = map(index.studies_named_in, names)
    return Exclusions(
        studies=study.exclude.studies.union(
            {study.study_id} - {""}, info.study_ids, prior.studies, *named
        ),
        patients=study.exclude.patients.union(filter(None, [info.patient_id]), prior.patients),
        reports=study.exclude.reports,
    )


class ReportRetriever(BaseRetriever):
    """Evidence for an image, or the reports nearest to a text; equal texts are one hit.

    Attributes:
        encoder: embeds the queries; one that embeds images only cannot be asked by text.
        k: number of reports; None takes ``settings.k``.
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
        """What an image is compared with: the setting, with "auto" resolved."""
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
        """Evidence for an image, best first.

        Args:
            vector: of the image, float32 [dim].
            predicted: findings of the image.
            exclude: what must not be retrieved.
            k: number of reports shown as evidence.
        """
        k = k or self.k or self.settings.k
        count = max(k, self.settings.fetch_k)
        if self.by == "image":
            pool = self.index.query_by_images(vector, count, exclude=exclude)
        else:
            pool = self.index.query(vector, count, exclude=exclude)
        if self.by == "both":  # all similarities are those of image and text
            by_images = self.index.query_by_images(
                vector, count, similarity="text", exclude=exclude
            )
            by_id = {hit.record.report_id: hit for hit in (*by_images, *pool)}
            rankings = [[hit.record.report_id for hit in hits] for hits in (pool, by_images)]
            pool = [by_id[report_id] for report_id in reciprocal_rank_fusion(rankings)[:count]]
        ranked = rerank_by_findings(pool, predicted, penalty=self.settings.label_penalty)
        return Retrieval(tuple(cover_findings(ranked, predicted, k=k)), tuple(pool))

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        """LangChain's entry point."""
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
        """The reports nearest to a text, best first.

        Raises:
            UsageError: the encoder embeds images only, or the text is empty.
        """
        if not text.strip():
            raise UsageError("the text to search for is empty")
        if not embeds_texts(self.encoder):
            raise UsageError(
                f"{self.encoder.encoder_id} embeds images only and cannot search by words: ask "
                "with an image"
            )
        (vector,) = self.encoder.embed_texts([text])
        return self.index.query(vector, k or self.k or self.settings.k)


def rerank_by_findings(
    pool: Sequence[Hit], predicted: PredictedFindings, *, penalty: float
) -> list[Hit]:
    """Order hits by similarity, less a penalty per finding on which report and image disagree.

    The similarities are assigned in descending order to the given order, which may be a fused one.

    Args:
        pool: hits, best first.
        predicted: of the image; if it judges no finding, the order stays.
        penalty: cosine similarity that one disagreement costs.
    """
    expected, judged = set(predicted.positive), set(predicted.probabilities)
    if predicted.normal:
        expected.add(NO_FINDING)
    if not (judged and penalty):
        return list(pool)

    def score(entry: tuple[float, Hit]) -> float:
        similarity, hit = entry
        return similarity - penalty * len((usable_labels(hit.record) & judged) ^ expected)

    similarities = sorted((hit.similarity for hit in pool), reverse=True)
    ranked = sorted(zip(similarities, pool, strict=True), key=score, reverse=True)
    return [hit for _, hit in ranked]


def cover_findings(pool: Sequence[Hit], predicted: PredictedFindings, *, k: int) -> list[Hit]:
    """The first ``k`` hits, some exchanged so that each predicted finding has a report stating it.

    For a finding that none states, the next hit that does replaces the last one that is not itself
    the only source of a predicted finding, if there is such a one.
    """
    chosen = list(pool[:k])

    def is_only_source(hit: Hit) -> bool:
        others = [usable_labels(other.record) for other in chosen if other is not hit]
        own = usable_labels(hit.record).intersection(predicted.positive)
        return not own <= frozenset[str]().union(*others)

    for finding in predicted.positive:
        if any(finding in usable_labels(hit.record) for hit in chosen):
            continue
        source = next((hit for hit in pool[k:] if finding in usable_labels(hit.record)), None)
        replaceable = [hit for hit in chosen if not is_only_source(hit)]
        if source is not None and replaceable:
            chosen.remove(replaceable[-1])
            chosen.append(replace(source, why=f"fetched for {finding.lower()}"))
    return chosen


_RANK_OFFSET = 60
"""From the paper: the larger, the less the first ranks dominate."""


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Ids by the sum of 1 / (60 + rank) over all rankings, best first, ties by id.

    Source: Cormack, Clarke & Buettcher, SIGIR 2009.

    Args:
        rankings: report ids, best first; an id may be missing from some.
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, report_id in enumerate(ranking, 1):
            scores[report_id] = scores.get(report_id, 0.0) + 1 / (_RANK_OFFSET + rank)
    return sorted(scores, key=lambda report_id: (-scores[report_id], report_id))


class EncoderEmbeddings(Embeddings):
    """LangChain embeddings of texts, by the encoder of the images.

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
        """A unit vector for one text."""
        return self.embed_documents([text])[0]
