"""What the images of a study show: vectors, expected labels, or why they are no ground for a draft.

Owns reading, refusing, encoding and steering, in this order. Knows no report and no model.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageTextEncoder
from encoders.images.image_info import ImageInfo, read_facts
from encoders.images.image_io import BLANK, ImageReadError, read_image
from encoders.region_query import CropRegionQuery, RegionQuery
from rag.predicted_findings import NO_PREDICTION, PredictedFindings
from rag.region import ReaderRegion
from rag.screening.finding_head import FindingHead
from rag.screening.header import Refusal, ScreeningResult, judge_colour, judge_header
from rag.screening.out_of_distribution import FeatureEncoder, OodDetector
from rag.study import Study, Work


@dataclass(frozen=True, slots=True)
class ImageAnalysis:
    """What was seen on a study's images. Holds pixels, tens of megabytes: not for keeping.

    Attributes:
        facts: of the frontal image's header.
        image: the frontal image.
        vectors: of all views, the frontal first, float32 [views, dim], norm 1.
        predicted: labels read off the frontal image.
    """

    facts: ImageInfo
    image: CxrImage
    vectors: NDArray[np.float32]
    predicted: PredictedFindings


class ImageAnalyzer:
    """Looks at the images of a study.

    Args:
        encoder: images to vectors.
        finding_head: predicts the image's labels; None where the encoder has none.
        ood_detector: refuses images whose pixels are strange (the encoder must show its features);
        None
            where none is calibrated.
        steering: how a region of the reader's acts on the search; a crop by default.
    """

    def __init__(
        self,
        encoder: ImageTextEncoder,
        *,
        finding_head: FindingHead | None,
        ood_detector: OodDetector | None,
        steering: RegionQuery | None,
    ) -> None:
        self.steering = steering or CropRegionQuery(encoder)
        self._encoder = encoder
        self._finding_head = finding_head
        self._ood_detector = ood_detector

    def look(self, study: Study, work: Work) -> Generator[None, None, ImageAnalysis | None]:
        """What is seen, given back at the end; None, and the work has ended, on no chest X-ray.

        Yields once, when the images have been read.

        Raises:
            ImageReadError: the first image cannot be read.
        """
        with work.stage("read"):
            facts = read_facts(study.source)
            verdict = judge_header(facts)
            images = [] if verdict.refusal else list(_images(study, work))
        work.note(verdict.notes)
        yield
        if verdict.refusal:
            _refuse(work, verdict.refusal)
            return None
        if BLANK in images[0].warnings:
            work.abstain("BlankImage", BLANK)
            return None
        if colour := judge_colour(images[0].warnings):
            _refuse(work, colour)
            return None
        with work.stage("encode"):
            vectors, seen = self._embed(images)
        if seen.refusal:
            _refuse(work, seen.refusal)
            return None
        work.note(seen.notes)
        predicted = self._finding_head.predict(vectors[0]) if self._finding_head else NO_PREDICTION
        return ImageAnalysis(facts, images[0], vectors, predicted)

    def _embed(self, images: Sequence[CxrImage]) -> tuple[NDArray[np.float32], ScreeningResult]:
        """Vectors of all views, and what the first one looks like."""
        if self._ood_detector is None:
            return self._encoder.embed_images(images), ScreeningResult()
        vectors, features = cast(FeatureEncoder, self._encoder).embed_with_features(images)
        return vectors, self._ood_detector.judge(features[0])

    def steered(self, look: ImageAnalysis, attention: ReaderRegion) -> NDArray[np.float32]:
        """Vectors to ask with; the image's labels and its refusal stay those of the whole image."""
        if not attention:
            return look.vectors
        first = self.steering.steer(look.image, look.vectors[0], attention.heatmap())
        return np.concatenate([first[np.newaxis], look.vectors[1:]])


def _images(study: Study, work: Work) -> Iterator[CxrImage]:
    """The frontal image, and of the further views those that can be read."""
    first = read_image(study.source, name=study.name)
    work.note(first.warnings)
    yield first
    for number, source in enumerate(study.further, 2):
        try:
            image = read_image(source)
        except ImageReadError as error:
            work.note((f"view {number} was left out: {error.reason.value}",))
        else:
            if BLANK not in image.warnings:
                yield image


def _refuse(work: Work, refusal: Refusal) -> None:
    work.abstain("NotAChestXray", refusal.reason)
