"""What the images of a study show: vectors and predicted findings, or that they are no chest X-ray.

Knows encoders and what was trained on their vectors. Knows no report and no language model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from encoders.base import CxrImage, ImageTextEncoder
from encoders.region_query import crop_to_region, normalized_mean
from rag.errors import NotAChestXray
from rag.predicted_findings import NO_PREDICTION, PredictedFindings
from rag.region import NO_REGION, ReaderRegion
from rag.screening.finding_head import FindingPredictor
from rag.screening.header import ScreeningResult
from rag.screening.out_of_distribution import FeatureEncoder, OodDetector
from rag.study import StudyImages, once


@dataclass(frozen=True, slots=True, eq=False)
class ImageAnalysis:
    """What a study's images show. Holds no pixels; can be pickled.

    Attributes:
        vectors: of all views, the frontal first, float32 [views, dim], norm 1.
        predicted: findings read off all views.
        notes: what the reader of a draft should know, of the images and of this.
        region_vector: of the frontal image drawn to the reader's region, float32 [dim], norm 1;
            None where there is no region.
    """

    vectors: NDArray[np.float32]
    predicted: PredictedFindings = NO_PREDICTION
    notes: tuple[str, ...] = ()
    region_vector: NDArray[np.float32] | None = None

    @property
    def query_vector(self) -> NDArray[np.float32]:
        """What to search with: the direction of the views' mean, float32 [dim], norm 1."""
        frontal = self.vectors[0] if self.region_vector is None else self.region_vector
        mean = np.concatenate([frontal[np.newaxis], self.vectors[1:]]).mean(0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


class ImageAnalyzer:
    """Encodes images and reads findings off their vectors.

    Args:
        encoder: images to vectors.
        findings: predicts findings; None where the encoder has no head for them.
        ood_detector: refuses images whose pixels are strange (the encoder must show its features);
            None where none is calibrated.
    """

    def __init__(
        self,
        encoder: ImageTextEncoder,
        *,
        findings: FindingPredictor | None = None,
        ood_detector: OodDetector | None = None,
    ) -> None:
        self.encoder = encoder
        self._findings = findings
        self._ood_detector = ood_detector

    def analyze(self, images: StudyImages, *, region: ReaderRegion = NO_REGION) -> ImageAnalysis:
        """Vectors of all views, and the findings they show together.

        Args:
            images: as `rag.study.load` gives them.
            region: draws the search to a part of the frontal image; findings stay the whole's.

        Raises:
            NotAChestXray: the pixels do not look like one.
        """
        vectors, seen = self._embed(images.views)
        if seen.refusal:
            raise NotAChestXray(seen.refusal.reason, notes=images.notes)
        analysis = ImageAnalysis(vectors, notes=once((*images.notes, *seen.notes)))
        if self._findings is not None:
            analysis = replace(analysis, predicted=self._findings.predict(analysis.query_vector))
        return self.draw_to(region, analysis, images)

    def draw_to(
        self, region: ReaderRegion, analysis: ImageAnalysis, images: StudyImages
    ) -> ImageAnalysis:
        """The same analysis, searching with the mean of the image and the crop of a region."""
        if not region:
            return replace(analysis, region_vector=None)
        (seen,) = self.encoder.embed_images([crop_to_region(images.views[0], region.heatmap())])
        return replace(analysis, region_vector=normalized_mean(analysis.vectors[0], seen))

    def _embed(self, views: Sequence[CxrImage]) -> tuple[NDArray[np.float32], ScreeningResult]:
        """Vectors of all views, and what they look like.

        Whether it is a chest X-ray is asked of the first; the notes are on the most frontal one,
        since of images without a header's word any may come first.
        """
        detector = self._ood_detector
        if detector is None:
            return self.encoder.embed_images(views), ScreeningResult()
        vectors, features = cast(FeatureEncoder, self.encoder).embed_with_features(views)
        frontal = int(detector.lateral_probabilities(features).argmin())
        refusal = detector.judge(features[0]).refusal
        return vectors, ScreeningResult(refusal, detector.judge(features[frontal]).notes)
