"""A Lightning checkpoint of the authors' layout becomes a model folder of ours.

``python -m encoders.training.lightning --checkpoint last.ckpt --config configs/train/lightning.toml
--out models/theirs``

Owns the map of names. Lightning keeps the weights under ``state_dict``; how the authors' modules
are called in it is not in the paper, so the map is data, in the settings, not code: prefixes of
theirs to prefixes of ours, the longest that fits first, an empty one for what inference does not
need. What no prefix fits, and what of ours nothing fills, is listed, so that a map for another
program is written in minutes. Pickles are read with ``weights_only``: they cannot run code.
"""

import argparse
import math
import pickle
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from encoders.eclip.model import TEMPERATURE_BOUNDS, EclipConfig, EclipModel
from encoders.eclip.weights import save_pretrained
from encoders.packaged_weights import EncoderError
from encoders.preprocess import EvalTransform

_OURS_ALONE = {"image_centre.mean", "text_centre.mean"}
"""Centres of the two sides: eCLIP has none, and zeros change nothing."""

_TEMPERATURE = "log_temperature"


class LightningSettings(BaseModel):
    """What is in a checkpoint, and how it is called there.

    Attributes:
        name: of the model folder's encoder.
        dim: length of an embedding.
        size, mean, std: of the images, as in `encoders.preprocess.EvalTransform`.
        image_tower, text_tower: settings of `encoders.towers.base`.
        keys: prefix in the checkpoint to prefix in `encoders.eclip.model.EclipModel`; empty to
            leave out.
        temperature: what the tensor that becomes ``log_temperature`` holds: the divisor itself, its
            logarithm, or CLIP's logit scale (the logarithm of one over it).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "eclip-lightning"
    dim: int = 512
    size: int = 224
    mean: float = 0.58
    std: float = 0.26
    image_tower: dict[str, Any]
    text_tower: dict[str, Any]
    keys: dict[str, str]
    temperature: Literal["divisor", "log_divisor", "log_scale"] = "divisor"


def read_lightning_settings(path: Path) -> LightningSettings:
    """The settings of a TOML file.

    Raises:
        EncoderError: the file cannot be read, or a key is unknown.
    """
    try:
        return LightningSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise EncoderError(f"cannot use {path}: {error}") from error


def load_lightning(path: Path, settings: LightningSettings) -> tuple[EclipModel, EvalTransform]:
    """The model of a checkpoint in evaluation mode, and the transform of its images.

    Raises:
        EncoderError: the checkpoint cannot be read, or its names or shapes do not fit.
    """
    renamed = rename(_read(path), settings.keys)
    model = EclipModel(
        EclipConfig(
            name=settings.name,
            dim=settings.dim,
            image_tower=settings.image_tower,
            text_tower=settings.text_tower,
        )
    )
    own = model.state_dict()
    if missing := own.keys() - renamed.keys() - _OURS_ALONE:
        raise EncoderError(
            f"{path} fills {len(own) - len(missing)} of {len(own)} tensors; missing: "
            f"{_by_prefix(missing)}. Which prefix of the checkpoint holds them? Add it to [keys]"
        )
    if unexpected := renamed.keys() - own.keys():
        raise EncoderError(
            f"{path} has tensors that the towers of the settings do not: {_by_prefix(unexpected)}. "
            'Map their prefix to "" in [keys] if inference does not need them'
        )
    renamed[_TEMPERATURE] = _log_temperature(renamed[_TEMPERATURE], settings.temperature)
    try:
        model.load_state_dict(own | renamed)
    except RuntimeError as error:
        raise EncoderError(f"{path} is of other towers than the settings: {error}") from error
    transform = EvalTransform(
        size=settings.size,
        low_percentile=0.0,
        high_percentile=100.0,
        mean=settings.mean,
        std=settings.std,
    )
    return model.eval().requires_grad_(False), transform


def rename(tensors: Mapping[str, Tensor], keys: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors under our names; those of an empty prefix are left out.

    Raises:
        EncoderError: no prefix fits a name, or two names become one.
    """
    renamed: dict[str, Tensor] = {}
    strangers = []
    for name, value in tensors.items():
        fits = [prefix for prefix in keys if name.startswith(prefix)]
        if not fits:
            strangers.append(name)
            continue
        prefix = max(fits, key=len)
        if not keys[prefix]:
            continue
        ours = keys[prefix] + name.removeprefix(prefix)
        if ours in renamed:
            raise EncoderError(f"{name} is a second tensor for {ours}; see [keys]")
        renamed[ours] = value
    if strangers:
        raise EncoderError(
            f"no prefix in [keys] fits {_by_prefix(strangers)}; add one each, empty to leave it out"
        )
    return renamed


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise EncoderError(
            f"cannot read {path} as plain tensors: {str(error).splitlines()[0]}. Where it was "
            "made, save its weights alone: torch.save({'state_dict': old['state_dict']}, path)"
        ) from error
    tensors = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(tensors, dict):
        raise EncoderError(f"{path} has no state_dict; it is no Lightning checkpoint")
    return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}


def _log_temperature(value: Tensor, kind: str) -> Tensor:
    number = float(value)
    divisor = {
        "divisor": lambda: number,
        "log_divisor": lambda: math.exp(number),
        "log_scale": lambda: math.exp(-number),
    }[kind]()
    low, high = TEMPERATURE_BOUNDS
    if not low * 0.999 <= divisor <= high * 1.001:
        raise EncoderError(
            f"read as {kind}, a temperature of {number:g} is a divisor of {divisor:g}, outside "
            f"[{low}, {high}]; is it another of divisor, log_divisor, log_scale?"
        )
    return torch.tensor(math.log(divisor))


def _by_prefix(names: Sequence[str] | set[str]) -> str:
    """``image_encoder.model. (173), loss. (2)``: the first two parts of the names, counted."""
    counts = Counter(".".join(name.split(".")[:2]) for name in sorted(names))
    return ", ".join(f"{prefix} ({count})" for prefix, count in counts.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert a checkpoint; 0 when the folder is written, 1 with a reason."""
    parser = argparse.ArgumentParser(prog="python -m encoders.training.lightning")
    parser.add_argument("--checkpoint", type=Path, required=True, help="of Lightning, .ckpt")
    parser.add_argument("--config", type=Path, required=True, help="towers and names, TOML")
    parser.add_argument("--out", type=Path, required=True, help="model folder")
    chosen = parser.parse_args(arguments)
    try:
        model, transform = load_lightning(chosen.checkpoint, read_lightning_settings(chosen.config))
        save_pretrained(chosen.out, model=model, transform=transform)
    except EncoderError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"model written to {chosen.out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
