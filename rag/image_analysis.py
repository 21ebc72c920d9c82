"""What the images of a study show: vectors and predicted findings, or that they are no chest X-ray.

Knows encoders and what was trained on their vectors, and what a prior report says. Knows no other
report and no language model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from encoders.annotations import crop_to_region
from encoders.base import ImageEncoder, embeds_texts, unit_vector
from encoders.images.raw_image import ImageReadError
from rag.change import ChangeModel, PriorEvidence, compare_findings
from rag.errors import NoDraft, NotAChestXray
from rag.localization import MapEncoder, MapMeasures, finding_in_region, opposite_sentences
from rag.priors import CheckedPrior
from rag.schema import NO_PREDICTED_FINDINGS, PredictedFindings
from rag.screening.finding_head import FindingPredictor
from rag.screening.out_of_distribution import OodDetector
from rag.study import NO_REGION, ReaderRegion, Study, StudyImages, load, unique

STEERING_WEIGHT = 0.8
"""Of a region's finding beside the image's own vector: docs/experiments.md."""
NO_CHANGE_MODEL = (
    "changes since the prior cannot be assessed: this encoder has no change.json (docs/priors.md)"
)
STEERED_TO = "the region steered the search to reports of: {} (experimental)"


@dataclass(frozen=True, slots=True, eq=False)
class ImageAnalysis:
    """What a study's images show. Holds no pixels; can be pickled.

    Attributes:
        vectors: of all views, the frontal first, float32 [views, dim], norm 1.
        predicted: findings read off all views.
        notes: what the reader of a draft should know, of the images and of this.
        maps: of the frontal image, by finding: log-odds by place, float32 [h, w]; none where the
            encoder has none.
        region_vector: of the frontal image steered to the reader's region, float32 [dim], norm 1;
            None where there is no region.
        region_finding: what the reports state that the region steered the search to; empty: none.
    """

    vectors: NDArray[np.float32]
    predicted: PredictedFindings = NO_PREDICTED_FINDINGS
    notes: tuple[str, ...] = ()
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    region_vector: NDArray[np.float32] | None = None
    region_finding: str = ""

    @property
    def query_vector(self) -> NDArray[np.float32]:
        """What to search with: the direction of the views' mean, float32 [dim], norm 1."""
        frontal = self.vectors[0] if self.region_vector is None else self.region_vector
        return unit_vector(np.concatenate([frontal[np.newaxis], self.vectors[1:]]).mean(0))


@dataclass(slots=True, eq=False, kw_only=True)
class ImageAnalyzer:
    """Encodes images and reads findings off their vectors.

    Attributes:
        encoder: images to vectors.
        findings: predicts findings; None where the encoder has no head for them.
        ood_detector: refuses images whose pixels are strange; None where none is calibrated, or
            the encoder does not show its features.
        change_model: tells what has changed since a prior; None: nothing tells.
        map_measures: what was measured of the encoder's finding maps.
        notes: what a reader of any draft should know of these parts.
    """

    encoder: ImageEncoder = field(kw_only=False)
    findings: FindingPredictor | None = None
    ood_detector: OodDetector | None = None
    change_model: ChangeModel | None = None
    map_measures: MapMeasures = field(default_factory=dict)
    notes: Sequence[str] = ()

    def analyze(self, images: StudyImages, *, region: ReaderRegion = NO_REGION) -> ImageAnalysis:
        """Vectors of all views, and the findings they show together; a region steers the search.

        Raises:
            NotAChestXray: the pixels do not look like one.
        """
        analysis = self._see(images)
        if self.findings is not None:
            analysis = replace(analysis, predicted=self.findings.predict(analysis.query_vector))
        return self.steer_to_region(region, analysis, images)

    def steer_to_region(
        self, region: ReaderRegion, analysis: ImageAnalysis, images: StudyImages
    ) -> ImageAnalysis:
        """The same analysis, its search steered to a region.

        With finding maps towards reports that state what the image would show there, and do not
        deny it; without, towards images like the region's crop (docs/experiments.md).
        """
        if not region:
            return replace(analysis, region_vector=None, region_finding="")
        whole, heat = analysis.vectors[0], region.heatmap()
        if analysis.maps and embeds_texts(self.encoder):
            finding = finding_in_region(analysis.maps, heat)
            stated, denied = self.encoder.embed_texts(opposite_sentences(finding))
            steered = unit_vector(whole + STEERING_WEIGHT * unit_vector(stated - denied))
            notes = unique((*analysis.notes, STEERED_TO.format(finding.lower())))
            return replace(
                analysis, region_vector=steered, region_finding=finding.lower(), notes=notes
            )
        (crop,) = self.encoder.embed_images([crop_to_region(images.views[0], heat)])
        return replace(analysis, region_vector=unit_vector(whole + crop))

    def compare(
        self, prior: CheckedPrior, current: ImageAnalysis
    ) -> tuple[PriorEvidence, tuple[str, ...]]:
        """What a prior tells beside the current images, and what the reader should know of it."""
        notes, before, read = [*prior.notes], NO_PREDICTED_FINDINGS, 0
        if prior.images:
            frontal, *other_views = prior.images
            try:
                images = load(Study(source=frontal, name="prior", other_views=tuple(other_views)))
                before, read = self.analyze(images).predicted, len(images.views)
            except (NoDraft, ImageReadError) as error:
                notes.append(f"the prior's image was not used: {error}")
        if self.change_model is None:
            notes.append(NO_CHANGE_MODEL)
        found = compare_findings(prior.report, before, current.predicted, self.change_model)
        return PriorEvidence(prior.report, read, prior.days_before, found), tuple(notes)

    def _see(self, images: StudyImages) -> ImageAnalysis:
        """Vectors of all views, what they look like, and where the first one would show findings.

        Whether it is a chest X-ray is asked of the first; the notes are on the most frontal one,
        since of images without a header's word any may come first.

        Raises:
            NotAChestXray: as in `analyze`.
        """
        notes = images.notes
        if not hasattr(self.encoder, "outputs"):
            vectors = self.encoder.embed_images(images.views)
            return ImageAnalysis(vectors, notes=unique((*notes, *self.notes)))
        encoder, detector = cast(MapEncoder, self.encoder), self.ood_detector
        seen = [encoder.outputs(view) for view in images.views]
        if detector is not None:
            features = np.concatenate([view.features for view in seen])
            if refusal := detector.screen(features[0]).refusal:
                raise NotAChestXray(refusal, notes=notes)
            frontal = int(detector.lateral_probabilities(features).argmin())
            notes = (*notes, *detector.screen(features[frontal]).notes)
        return ImageAnalysis(
            np.concatenate([view.vectors for view in seen]),
            notes=unique((*notes, *self.notes)),
            maps=dict(zip(encoder.findings, seen[0].maps[0], strict=True)),
        )
