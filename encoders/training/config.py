"""The settings of a training run, read from a TOML file; an unknown key is refused.

The defaults are those of the shipped recipe unless configs/train/eclip-lite0.toml overrides them.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from encoders.training.dataset import TrainingDataError
from encoders.training.sources.settings import FINDINGS, StudySource


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Settings):
    """The model to train; see `encoders.eclip.model.EclipConfig`.

    Attributes:
        start: initial weights of an EfficientNet-Lite tower; other towers start at random.
        image_tower, text_tower: see `encoders.towers.base`.
        image_weights, text_weights: folders of Hugging Face models to use as towers instead.
        start_from: model folder to continue from (eCLIP post-tuned from a trained CLIP).
    """

    dim: int = Field(default=256, ge=8)
    start: Literal["imagenet", "random"] = "imagenet"
    dropout: float = Field(default=0.3, ge=0, lt=1)
    image_tower: dict[str, Any] = {
        "kind": "efficientnet_lite",
        "variant": "lite0",
        "drop_path": 0.2,
    }
    text_tower: dict[str, Any] = {"kind": "sentence_set", "hidden": 512, "sentence_dropout": 0.2}
    image_weights: Path | None = None
    text_weights: Path | None = None
    start_from: Path | None = None


class AugmentSettings(_Settings):
    """Ranges of the training augmentation; see `encoders.training.augment`.

    Attributes:
        smallest_crop: side of the smallest crop, as a share of the image's.
        degrees: largest rotation.
        aspect, gamma, contrast: largest change of the logarithm.
        brightness: largest offset of grey values in [0, 1].
    """

    smallest_crop: float = Field(default=0.75, gt=0, le=1)
    degrees: float = Field(default=10, ge=0)
    aspect: float = Field(default=0.1, ge=0)
    gamma: float = Field(default=0.4, ge=0)
    contrast: float = Field(default=0.3, ge=0)
    brightness: float = Field(default=0.12, ge=0)


class TargetSettings(_Settings):
    """Contrastive targets: which reports of its batch an image should match.

    Attributes:
        kind: ``soft``, in proportion to the similarity of texts and labels
            (`encoders.training.objective.soft_targets`); ``equal``, its own report and identical
            ones; ``own``, its own report only, as in CLIP.
        label_share: weight of the label similarity in ``soft``; the rest is text similarity.
    """

    kind: Literal["soft", "equal", "own"] = "soft"
    label_share: float = Field(default=0.5, ge=0, le=1)


class Curriculum(_Settings):
    """When expert steps occur; by default in 22 % of the steps on average.

    The authors' code uses 0.05 for ``last``.

    Attributes:
        cold: share of the steps without expert pairs; the heatmap processor is primed in them.
        warm: share of the steps in which their probability rises from ``first`` to ``peak``.
        cool: share in which it falls to ``last``, which it keeps until the end.
    """

    cold: float = Field(default=0.1, ge=0, le=1)
    warm: float = Field(default=0.3, ge=0, le=1)
    cool: float = Field(default=0.4, ge=0, le=1)
    first: float = Field(default=0.05, ge=0, le=1)
    peak: float = Field(default=0.5, ge=0, le=1)
    last: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if self.cold + self.warm + self.cool > 1 + 1e-9:
            raise ValueError(
                f"cold {self.cold}, warm {self.warm} and cool {self.cool} must sum to at most 1"
            )
        return self

    def is_cold(self, step: int, *, steps: int) -> bool:
        """Whether the step is in the cold start."""
        return step / steps < self.cold

    def probability(self, step: int, *, steps: int) -> float:
        """Probability that step ``step`` of ``steps`` is an expert step."""
        position = step / steps - self.cold
        if position < 0:
            return 0.0
        if position < self.warm:
            return self.first + (self.peak - self.first) * position / self.warm
        position -= self.warm
        if position < self.cool:
            return self.peak + (self.last - self.peak) * position / self.cool
        return self.last


class ProcessorSettings(_Settings):
    """Arguments of `encoders.training.heatmap_processor.HeatmapProcessor`."""

    width: int = Field(default=256, ge=1)
    patch: int = Field(default=16, ge=1)
    heads: int = Field(default=8, ge=1)


class ExpertSettings(_Settings):
    """eCLIP: what an expert step adds to the batch. The defaults are the paper's.

    Attributes:
        mixup: ``beta`` mixes each image with its expert image by λ ~ Beta(alpha, alpha), one draw
            per step; ``none`` uses the expert image alone.
        alpha: a small one keeps λ near 0 or 1.
        share: size of the expert batch relative to the main one.
        priming_weight: weight of the priming loss in the cold start.
        heatmaps: ``shuffled`` gives each image another image's heatmap, as a control.
    """

    processor: ProcessorSettings = ProcessorSettings()
    mixup: Literal["beta", "none"] = "beta"
    alpha: float = Field(default=0.3, gt=0)
    share: float = Field(default=0.5, gt=0, le=1)
    priming_weight: float = Field(default=0.1, ge=0, lt=1)
    heatmaps: Literal["own", "shuffled"] = "own"
    curriculum: Curriculum = Curriculum()


class OptimSettings(_Settings):
    """AdamW with warm-up and cosine decay.

    Attributes:
        lr: learning rate of the image tower.
        head_lr: of text tower, projections and heads, as a multiple of ``lr``.
        ema: decay per step of the averaged weights, which are the ones saved.
        agreement_weight: weight of `encoders.training.objective.AgreementLoss`; InfoNCE has 1.
        label_weight: weight of the label head's loss.
        precision: of the towers; ``auto`` is ``bf16`` where the hardware supports it, otherwise
            ``no`` (float32).
    """

    epochs: int = Field(default=12, ge=1)
    batch_size: int = Field(default=64, ge=2)
    lr: float = Field(default=5e-4, gt=0)
    head_lr: float = Field(default=2.0, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    ema: float = Field(default=0.99, ge=0, lt=1)
    agreement_weight: float = Field(default=3.0, ge=0)
    label_weight: float = Field(default=10.0, ge=0)
    precision: Literal["auto", "no", "bf16"] = "auto"


class LabelledSettings(_Settings):
    """Labelled images added to every step; see `encoders.training.labelled`.

    The model gets a finding map for each of ``findings``.
    """

    findings: tuple[str, ...] = FINDINGS
    batch_size: int = Field(default=16, ge=2)


class PretrainSettings(_Settings):
    """Training of the image tower and finding maps on labelled images alone, before the run."""

    epochs: float = Field(default=6, gt=0)
    batch_size: int = Field(default=64, ge=2)
    size: int = Field(default=128, ge=32)


class TrainSettings(_Settings):
    """A whole run. Without ``expert`` it trains CLIP.

    Attributes:
        name: first half of the encoder id.
        size: side of the training images, in pixels.
        cache_side: side of the decoded images in the cache, in pixels.
        small_size, small_share: a smaller side for the first share of the steps; 0 for none.
        laterals: whether to train on lateral images too.
        min_label_count: findings with fewer training studies are ignored.
        checkpoint_every: in steps.
        data: studies and annotation; by default Open-I with the NIH readings.
        num_workers: threads that prepare batches ahead; 0 for none. No effect on results.
    """

    name: str = Field(default="eclip-lite0", pattern=r"^[a-z0-9][a-z0-9.-]*$")
    seed: int = 0
    size: int = Field(default=224, ge=32)
    cache_side: int = Field(default=256, ge=32)
    small_size: int = Field(default=0, ge=0)
    small_share: float = Field(default=0, ge=0, lt=1)
    laterals: bool = True
    min_label_count: int = Field(default=20, ge=1)
    checkpoint_every: int = Field(default=50, ge=1)
    model: ModelSettings = ModelSettings()
    augment: AugmentSettings = AugmentSettings()
    targets: TargetSettings = TargetSettings()
    optim: OptimSettings = OptimSettings()
    expert: ExpertSettings | None = None
    labelled: LabelledSettings | None = None
    pretrain: PretrainSettings | None = None
    data: StudySource | None = None
    num_workers: int = Field(default=1, ge=0, exclude=True)

    @model_validator(mode="after")
    def _pretrain_has_images(self) -> Self:
        if self.pretrain and not self.labelled:
            raise ValueError("pretrain needs the section [labelled]")
        return self


def read_settings(path: Path) -> TrainSettings:
    """Read a TOML file.

    Raises:
        TrainingDataError: the file cannot be read, or a key is unknown or out of range.
    """
    try:
        return TrainSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise TrainingDataError(f"cannot use {path}: {error}") from error
