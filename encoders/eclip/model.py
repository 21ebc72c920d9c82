"""The eCLIP model (two towers, two projections, a temperature, finding maps), and its folder.

Only safetensors is read: a pickle can run code. The expert parts of training (heatmap processor,
mixup, curriculum) are not part of it.

Source: Kumar & Marttinen, arXiv 2403.10153; Radford et al., arXiv 2103.00020.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from encoders.eclip.finding_maps import FindingMaps
from encoders.packaged_weights import EncoderError, file_sha256, read_json
from encoders.preprocess import EvalTransform
from encoders.towers.base import (
    ImageTower,
    PreparedTexts,
    TextTower,
    build_image_tower,
    build_text_tower,
)
from encoders.towers.efficientnet_lite import EfficientNetLite
from encoders.towers.hugging_face import HuggingFaceText

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
GRAPH = "image.onnx"
TOKENIZER = "tokenizer"
"""Folder of a Hugging Face text tower's tokenizer."""

MODEL_TYPE = "eclip"
TEMPERATURE_BOUNDS = (0.01, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class EclipConfig:
    """The content of ``config.json``: everything needed to build the model.

    Attributes:
        name: first half of the encoder id.
        dim: length of an embedding.
        image_tower, text_tower: see `encoders.towers.base`.
        dropout: on the image features, in training only.
        temperature: initial divisor of the similarities.
        findings: those the model has maps of, in the maps' order.
        map_grid: side of the maps in cells.
    """

    name: str = "eclip"
    dim: int = 256
    image_tower: dict[str, Any] = field(default_factory=lambda: {"kind": "efficientnet_lite"})
    text_tower: dict[str, Any] = field(default_factory=lambda: {"kind": "sentence_set"})
    dropout: float = 0.3
    temperature: float = 0.07
    findings: tuple[str, ...] = ()
    map_grid: int = 14

    @classmethod
    def from_json(cls, settings: dict[str, Any]) -> "EclipConfig":
        """Parse a ``config.json``; another model type or an unknown key is an EncoderError."""
        values = dict(settings)
        model_type = values.pop("model_type", None)
        if model_type != MODEL_TYPE:
            raise EncoderError(
                f"config.json has model_type {model_type!r}, expected {MODEL_TYPE!r}"
            )
        if members := values.get("members"):
            raise EncoderError(f"this is an ensemble: name the folder of a member, of {members}")
        unknown = values.keys() - {item.name for item in fields(cls)}
        if unknown:
            raise EncoderError(f"config.json has unknown keys {sorted(unknown)}")
        values["findings"] = tuple(values.get("findings", ()))
        return cls(**values)


class RunningMeanCentering(nn.Module):
    """Subtracts the mean: the batch's in training, a running mean at inference.

    Otherwise images and reports settle in two distant cones (the modality gap), where similarity
    tells how near a report is to the images' cone rather than to the image. Source: Liang et al.,
    arXiv 2203.02053; centring as in GR-CLIP, arXiv 2507.19054.
    """

    MOMENTUM = 0.1

    mean: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, rows: Tensor) -> Tensor:
        """Rows float32 [N, width], centred."""
        if not self.training:
            return rows - self.mean
        mean = rows.mean(0)
        self.mean.lerp_(mean.detach(), self.MOMENTUM)
        return rows - mean


class EclipModel(nn.Module):
    """Images and texts to unit vectors in one space."""

    def __init__(self, config: EclipConfig) -> None:
        super().__init__()
        self.config = config
        self.image_tower = build_image_tower(config.image_tower)
        self.text_tower = build_text_tower(config.text_tower)
        self.dropout = nn.Dropout(config.dropout)
        widths = cast(ImageTower, self.image_tower).width, cast(TextTower, self.text_tower).width
        self.image_projection, self.text_projection = (
            nn.Linear(width, config.dim, bias=False) for width in widths
        )
        self.image_centre = RunningMeanCentering(config.dim)
        self.text_centre = RunningMeanCentering(config.dim)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.finding_maps: FindingMaps | None = None
        if config.findings:
            tower = self.image_tower
            if not isinstance(tower, EfficientNetLite):
                raise EncoderError(f"{type(tower).__name__} has no grids for finding maps")
            sizes = {"mid_width": tower.mid_width, "width": tower.width, "grid": config.map_grid}
            self.finding_maps = FindingMaps(len(config.findings), **sizes)

    def prepare_texts(self, texts: Sequence[str]) -> PreparedTexts:
        """Texts to the input of `encode_text`."""
        return cast(TextTower, self.text_tower).prepare(texts)

    def image_features(self, pixels: Tensor) -> Tensor:
        """Normalised images float32 [N, channels, H, W] to tower features float32 [N, width]."""
        features: Tensor = self.dropout(self.image_tower(pixels).float())
        return features

    def features_and_maps(
        self, pixels: Tensor, *, mapped: slice = slice(None)
    ) -> tuple[Tensor, Tensor]:
        """As `image_features`, with finding maps [N, findings, h, w] of the ``mapped`` images.

        Raises:
            EncoderError: the model has no maps.
        """
        if self.finding_maps is None:
            raise EncoderError(f"{self.config.name} has no finding maps")
        mid, deep = cast(EfficientNetLite, self.image_tower).grids(pixels)
        features: Tensor = self.dropout(deep.float().mean((-2, -1)))
        return features, self.finding_maps(mid[mapped], deep[mapped])

    def project_image(self, features: Tensor) -> Tensor:
        """Tower features to embeddings float32 [N, dim], rows of norm 1."""
        return functional.normalize(self.image_centre(self.image_projection(features)), dim=-1)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Normalised images float32 [N, channels, H, W] to float32 [N, dim], rows of norm 1."""
        return self.project_image(self.image_features(pixels))

    def encode_text(self, prepared: PreparedTexts) -> Tensor:
        """Prepared texts to float32 [N, dim], rows of norm 1."""
        return self.project_text(self.text_features(prepared))

    def text_features(self, prepared: PreparedTexts) -> Tensor:
        """Prepared texts to tower features float32 [N, width]."""
        features: Tensor = self.text_tower(prepared).float()
        return features

    def project_text(self, features: Tensor) -> Tensor:
        """Tower features to embeddings float32 [N, dim], rows of norm 1."""
        return functional.normalize(self.text_centre(self.text_projection(features)), dim=-1)

    @torch.no_grad()
    def bound_temperature(self) -> None:
        """Clamp the parameter to the bounds; beyond them it would have no gradient."""
        self.log_temperature.clamp_(*(math.log(bound) for bound in TEMPERATURE_BOUNDS))

    @property
    def temperature(self) -> Tensor:
        """Divisor of the similarities in the loss."""
        return self.log_temperature.exp().clamp(*TEMPERATURE_BOUNDS)


def save_pretrained(folder: Path, *, model: EclipModel, transform: EvalTransform) -> None:
    """Write a model folder; a graph of earlier weights is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GRAPH).unlink(missing_ok=True)
    config = {"model_type": MODEL_TYPE, **asdict(model.config)}
    if isinstance(model.text_tower, HuggingFaceText):
        model.text_tower.save_tokenizer(folder / TOKENIZER)
        config["text_tower"]["tokenizer"] = TOKENIZER
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    transform.save_pretrained(folder)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors creates it readable by its owner only


def load_pretrained(folder: Path) -> tuple[EclipModel, EvalTransform]:
    """The model in evaluation mode and its transform.

    Raises:
        EncoderError: a file is missing or damaged, or the weights are of another model.
    """
    config = EclipConfig.from_json(read_json(folder / CONFIG))
    if config.text_tower.get("tokenizer") == TOKENIZER:
        tokenizer = {"tokenizer": str(folder / TOKENIZER)}
        config = replace(config, text_tower=config.text_tower | tokenizer)
    transform = EvalTransform.from_pretrained(folder)
    model = EclipModel(config)
    path = folder / WEIGHTS
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"cannot read {path}: {error}; restore it from the release") from error
    except RuntimeError as error:
        raise EncoderError(f"{path} does not fit {CONFIG}: {error}") from error
    return model.eval().requires_grad_(False), transform


def content_hash(folder: Path) -> str:
    """First 12 digits of the sha256 over configuration, weights and tokenizer (if any)."""
    names = (folder / CONFIG, folder / WEIGHTS, *sorted((folder / TOKENIZER).glob("*")))
    parts = [file_sha256(path) for path in names]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]
