"""The settings of a training run, read from a TOML file; an unknown key is refused.

Owns names, defaults and units. A default is the shipped recipe's where
configs/train/eclip-lite0.toml says nothing else.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from encoders.training.dataset import TrainingDataError
from encoders.training.expert import Curriculum
from encoders.training.sources.settings import FINDINGS, StudySource


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSettings(_Settings):
    """The model that is trained; see `encoders.eclip.model.EclipConfig`.

    Attributes:
        image_tower, text_tower: settings of `encoders.towers.base`; these start at random.
        start: of EfficientNet-Lite0.
        image_weights, text_weights: folders of Hugging Face models to start from instead.
        start_from: a model folder to continue from (eCLIP post-tuned from a trained CLIP).
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
    """Training augmentation; see `encoders.training.augment`. Spreads are in log units."""

    smallest_crop: float = Field(default=0.75, gt=0, le=1)
    degrees: float = Field(default=10, ge=0)
    aspect: float = Field(default=0.1, ge=0)
    gamma: float = Field(default=0.4, ge=0)
    contrast: float = Field(default=0.3, ge=0)
    brightness: float = Field(default=0.12, ge=0)


class TargetSettings(_Settings):
    """What an image should find among the reports of its batch.

    Attributes:
        kind: ``soft``, by nearness of texts and labels (`soft_targets` in the objective);
            ``equal``, its own report and those equal to it; ``own``, its own alone, as in CLIP.
        label_share: of ``soft``.
    """

    kind: Literal["soft", "equal", "own"] = "soft"
    label_share: float = Field(default=0.5, ge=0, le=1)


class ProcessorSettings(_Settings):
    """See `encoders.training.expert.HeatmapProcessor`."""

    width: int = Field(default=256, ge=1)
    patch: int = Field(default=16, ge=1)
    heads: int = Field(default=8, ge=1)


class ExpertSettings(_Settings):
    """eCLIP: what an expert step adds to the batch. The paper's values are the defaults.

    Attributes:
        processor: the heatmap processor.
        mixup: ``beta`` mixes an image with its expert image by λ ~ Beta(alpha, alpha), one a step;
            ``none`` takes the expert image as it is.
        alpha: of the mixup's distribution: a small one keeps λ near 0 or 1.
        share: size of the expert batch as a share of the main one.
        priming_weight: of the priming loss in the cold start.
        heatmaps: ``own``, or another expert image's for the control.
    """

    processor: ProcessorSettings = ProcessorSettings()
    mixup: Literal["beta", "none"] = "beta"
    alpha: float = Field(default=0.3, gt=0)
    share: float = Field(default=0.5, gt=0, le=1)
    priming_weight: float = Field(default=0.1, ge=0, lt=1)
    heatmaps: Literal["own", "shuffled"] = "own"
    curriculum: Curriculum = Curriculum()


class OptimSettings(_Settings):
    """AdamW, warm-up, cosine.

    Attributes:
        lr: of the image tower; everything that starts at random learns ``head_lr`` times as fast.
        ema: decay per step of the averaged weights, which are the ones that are kept.
        agreement_weight: of `encoders.training.objective.AgreementLoss`; InfoNCE's weight is 1.
        label_weight: of the label head on the image features.
        precision: of the towers; ``auto`` is ``bf16`` where the machine computes in it, else
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
    """Labelled images beside the pairs of every step; see `encoders.training.labelled`.

    ``findings`` are what the model learns to show on a map, by the readers' names.
    """

    findings: tuple[str, ...] = FINDINGS
    batch_size: int = Field(default=16, ge=2)


class PretrainSettings(_Settings):
    """Before the run, the image tower and the maps learn from the labelled images alone."""

    epochs: float = Field(default=6, gt=0)
    batch_size: int = Field(default=64, ge=2)
    size: int = Field(default=128, ge=32)


class TrainSettings(_Settings):
    """A whole run; without ``expert`` it trains CLIP.

    Attributes:
        name: first half of the encoder id.
        size, cache_side: sides in pixels of the images that are trained on and kept decoded.
        small_size, small_share: side in the first share of the steps, which are then cheaper.
        laterals: whether lateral images are trained on too.
        min_label_count: training studies that a finding needs to be learned.
        checkpoint_every: steps.
        expert, labelled, pretrain: expert steps, labelled images beside the pairs, and a start
            from them; none of each if left out.
        data: studies and annotation; Open-I with the NIH readings of the data folder if left out.
        num_workers: threads that prepare the next batches, 0 for none; changes no bit.
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
    data: StudySource | None = Field(default=None)
    num_workers: int = Field(default=1, ge=0, exclude=True)

    @model_validator(mode="after")
    def _pretrain_has_images(self) -> Self:
        if self.pretrain and not self.labelled:
            raise ValueError("pretrain needs the section [labelled]")
        return self


def read_settings(path: Path) -> TrainSettings:
    """The settings of a TOML file.

    Raises:
        TrainingDataError: the file cannot be read, or a key is unknown or out of range.
    """
    try:
        return TrainSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise TrainingDataError(f"cannot use {path}: {error}") from error
