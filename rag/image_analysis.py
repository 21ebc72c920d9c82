"""What the images of a study show: vectors and predicted findings, or why they are refused.

Owns the encoder and the parts trained on its vectors. Knows no report but the patient's prior.
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
"""Of a region's finding relative to the image's own vector (docs/experiments.md)."""
NO_CHANGE_MODEL = (
    "changes since the prior cannot be assessed: this encoder has no change.json (docs/priors.md)"
)
STEERED_TO = "the region steered the search to reports of: {} (experimental)"


@dataclass(frozen=True, slots=True, eq=False)
class ImageAnalysis:
    """What a study's images show. Holds no pixels; can be pickled.

    Attributes:
        vectors: of all views, the frontal first, float32 [views, dim], norm 1.
        predicted: findings of all views together.
        notes: what the reader of a draft should know.
        maps: finding -> log-odds in the frontal image, float32 [h, w]; empty without finding maps.
        region_vector: query steered to the reader's region, float32 [dim], norm 1, or None.
        region_finding: the finding that the region steered the query to, if any.
    """

    vectors: NDArray[np.float32]
    predicted: PredictedFindings = NO_PREDICTED_FINDINGS
    notes: tuple[str, ...] = ()
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    region_vector: NDArray[np.float32] | None = None
    region_finding: str = ""

    @property
    def query_vector(self) -> NDArray[np.float32]:
        """The normalised mean of the views, float32 [dim]."""
        frontal = self.vectors[0] if self.region_vector is None else self.region_vector
        return unit_vector(np.concatenate([frontal[np.newaxis], self.vectors[1:]]).mean(0))


@dataclass(slots=True, eq=False, kw_only=True)
class ImageAnalyzer:
    """Encodes images, refuses what is not a chest X-ray, and predicts findings.

    Attributes:
        findings: head on the encoder's vectors; None if it has none.
        ood_detector: refuses out-of-distribution images; None if the encoder has none.
        change_model: tells what has changed since a prior; None if the encoder has none.
        map_measures: measured accuracy of the encoder's finding maps.
        notes: for the reader of every draft, e.g. that a part is missing.
    """

    encoder: ImageEncoder = field(kw_only=False)
    findings: FindingPredictor | None = None
    ood_detector: OodDetector | None = None
    change_model: ChangeModel | None = None
    map_measures: MapMeasures = field(default_factory=dict)
    notes: Sequence[str] = ()

    def analyze(self, images: StudyImages, *, region: ReaderRegion = NO_REGION) -> ImageAnalysis:
        """Encode all views and predict their findings; a region steers the query.

        Raises:
            NotAChestXray: the pixels do not look like one.
        """
        analysis = self._encode(images)
        if self.findings is not None:
            analysis = replace(analysis, predicted=self.findings.predict(analysis.query_vector))
        return self.steer_to_region(region, analysis, images)

    def steer_to_region(
        self, region: ReaderRegion, analysis: ImageAnalysis, images: StudyImages
    ) -> ImageAnalysis:
        """The analysis with its query steered to a region.

        With finding maps, towards reports that state the likeliest finding there; without, towards
        the region's crop (docs/experiments.md).
        """
        if not region:
            return replace(analysis, region_vector=None, region_finding="")
        frontal, heat = analysis.vectors[0], region.heatmap()
        if analysis.maps and embeds_texts(self.encoder):
            finding = finding_in_region(analysis.maps, heat)
            stated, denied = self.encoder.embed_texts(opposite_sentences(finding))
            steered = unit_vector(frontal + STEERING_WEIGHT * unit_vector(stated - denied))
            notes = unique((*analysis.notes, STEERED_TO.format(finding.lower())))
            return replace(
                analysis, region_vector=steered, region_finding=finding.lower(), notes=notes
            )
        (crop,) = self.encoder.embed_images([crop_to_region(images.views[0], heat)])
        return replace(analysis, region_vector=unit_vector(frontal + crop))

    def compare(
        self, prior: CheckedPrior, current: ImageAnalysis
    ) -> tuple[PriorEvidence, tuple[str, ...]]:
        """What became of each finding since a prior, and notes for the reader."""
        notes, before, count = [*prior.notes], NO_PREDICTED_FINDINGS, 0
        if prior.images:
            frontal, *other_views = prior.images
            try:
                images = load(Study(source=frontal, name="prior", other_views=tuple(other_views)))
                before, count = self.analyze(images).predicted, len(images.views)
            except (NoDraft, ImageReadError) as error:
                notes.append(f"the prior's image was not used: {error}")
        if self.change_model is None:
            notes.append(NO_CHANGE_MODEL)
        changes = compare_findings(prior.report, before, current.predicted, self.change_model)
        return PriorEvidence(prior.report, count, prior.days_before, changes), tuple(notes)

    def _encode(self, images: StudyImages) -> ImageAnalysis:
        """Vectors of all views, and finding maps of the first.

        The first view decides on refusal. The notes are on the most frontal one: without headers,
        a lateral may come first.
        """
        notes = images.notes
        if not hasattr(self.encoder, "outputs"):
            vectors = self.encoder.embed_images(images.views)
            return ImageAnalysis(vectors, notes=unique((*notes, *self.notes)))
        encoder, detector = cast(MapEncoder, self.encoder), self.ood_detector
        outputs = [encoder.outputs(view) for view in images.views]
        if detector is not None:
            features = np.concatenate([output.features for output in outputs])
            if refusal := detector.screen(features[0]).refusal:
                raise NotAChestXray(refusal, notes=notes)
            frontal = int(detector.lateral_probabilities(features).argmin())
            notes = (*notes, *detector.screen(features[frontal]).notes)
        return ImageAnalysis(
            np.concatenate([output.vectors for output in outputs]),
            notes=unique((*notes, *self.notes)),
            maps=dict(zip(encoder.findings, outputs[0].maps[0], strict=True)),
        )
