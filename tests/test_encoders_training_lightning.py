"""A Lightning checkpoint under other names is the same model; what does not fit is listed."""

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import TEXTS, tiny_bert
from torch import Tensor, nn
from transformers import BertConfig

from encoders.eclip import load_encoder
from encoders.eclip.model import EclipConfig, EclipModel
from encoders.packaged_weights import EncoderError
from encoders.training.lightning import (
    LightningSettings,
    load_lightning,
    main,
    read_lightning_settings,
)

CONFIG = Path(__file__).parents[1] / "configs" / "train" / "lightning.toml"
THEIRS = {
    "image_tower.": "model.image_encoder.",
    "text_tower.": "model.text_encoder.",
    "image_projection.": "model.image_projection.",
    "text_projection.": "model.text_projection.",
    "log_temperature": "model.temperature",
}


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    bert = tiny_bert(tmp_path_factory.mktemp("bert"), with_weights=False)
    config = BertConfig.from_pretrained(bert).to_dict()
    text = {"kind": "hugging_face", "config": config, "tokenizer": str(bert), "max_length": 24}
    return {"image_tower": {"kind": "small_cnn", "channels": 4}, "text_tower": text}


@pytest.fixture
def settings(towers: dict[str, Any]) -> LightningSettings:
    return LightningSettings(
        dim=8,
        size=32,
        keys={theirs: ours for ours, theirs in THEIRS.items()} | {"model.heatmap_processor.": ""},
        **towers,
    )


@pytest.fixture
def model(towers: dict[str, Any]) -> EclipModel:
    torch.manual_seed(0)
    return EclipModel(EclipConfig(dim=8, temperature=0.05, **towers)).eval()


def checkpoint(model: EclipModel, path: Path, **changes: Tensor | None) -> Path:
    """As Lightning writes it: weights under state_dict, bookkeeping around them."""
    tensors: dict[str, Tensor] = {"model.heatmap_processor.linear.weight": torch.ones(2, 2)}
    for name, value in model.state_dict().items():
        for ours, theirs in THEIRS.items():
            if name.startswith(ours):
                tensors[theirs + name.removeprefix(ours)] = value
    tensors["model.temperature"] = model.temperature.detach()
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    content = {"state_dict": tensors, "epoch": 3, "pytorch-lightning_version": "2.2.0"}
    torch.save(content | {"hyper_parameters": {"lr": 2e-4}}, path)
    return path


def test_it_is_the_same_model(
    model: EclipModel, settings: LightningSettings, tmp_path: Path
) -> None:
    loaded, transform = load_lightning(checkpoint(model, tmp_path / "last.ckpt"), settings)
    images, pieces = torch.randn(2, 3, 32, 32), model.prepare_texts(TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode_image(images), model.encode_image(images))
        torch.testing.assert_close(loaded.encode_text(pieces), model.encode_text(pieces))
    assert loaded.temperature.item() == pytest.approx(0.05)
    assert (transform.mean, transform.std, transform.size) == (0.58, 0.26, 32)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("divisor", 0.05), ("log_divisor", math.log(0.05)), ("log_scale", math.log(20))],
)
def test_a_temperature_is_read_as_it_was_written(
    model: EclipModel, settings: LightningSettings, tmp_path: Path, kind: str, value: float
) -> None:
    path = checkpoint(model, tmp_path / "last.ckpt", **{"model.temperature": torch.tensor(value)})
    chosen = settings.model_copy(update={"temperature": kind})
    assert load_lightning(path, chosen)[0].temperature.item() == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer_head.weight": torch.ones(1)}, r"no prefix .* fits optimizer_head\.weight"),
        ({"model.image_projection.weight": None}, r"missing: image_projection\.weight \(1\)"),
        ({"model.image_encoder.extra": torch.ones(1)}, r"image_tower\.extra \(1\).*needs? them"),
        ({"model.text_projection.weight": torch.ones(8, 3)}, "other towers than the settings"),
        ({"model.temperature": torch.tensor(14.3)}, "log_divisor, log_scale"),
    ],
    ids=["stranger", "missing", "unexpected", "shape", "temperature"],
)
def test_what_does_not_fit_is_listed(
    model: EclipModel,
    settings: LightningSettings,
    tmp_path: Path,
    changes: dict[str, Tensor | None],
    message: str,
) -> None:
    path = checkpoint(model, tmp_path / "last.ckpt", **changes)
    with pytest.raises(EncoderError, match=message):
        load_lightning(path, settings)


def test_two_names_for_one_tensor_are_refused(
    model: EclipModel, settings: LightningSettings, tmp_path: Path
) -> None:
    path = checkpoint(
        model, tmp_path / "last.ckpt", **{"ema.image_projection.weight": torch.ones(8, 32)}
    )
    keys = settings.keys | {"ema.": ""} | {"ema.image_projection.": "image_projection."}
    with pytest.raises(EncoderError, match="second tensor"):
        load_lightning(path, settings.model_copy(update={"keys": keys}))


@pytest.mark.parametrize("content", [b"no pickle", None, {"weights": 1}, nn.Linear(1, 1)])
def test_what_is_no_checkpoint_is_refused(
    settings: LightningSettings, tmp_path: Path, content: Any
) -> None:
    path = tmp_path / "last.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(EncoderError, match=r"last\.ckpt"):
        load_lightning(path, settings)


def test_the_command_writes_a_model_folder(
    model: EclipModel, settings: LightningSettings, tmp_path: Path, capsys: Any
) -> None:
    path = checkpoint(model, tmp_path / "last.ckpt")
    toml = tmp_path / "names.toml"
    config = settings.text_tower["config"]
    small = {name: value for name, value in config.items() if isinstance(value, int)}
    inline = ", ".join(f"{name} = {str(value).lower()}" for name, value in small.items())
    folder = settings.text_tower["tokenizer"]
    keys = "\n".join(f'"{theirs}" = "{ours}"' for theirs, ours in settings.keys.items())
    toml.write_text(
        f'dim = 8\nsize = 32\n[image_tower]\nkind = "small_cnn"\nchannels = 4\n[text_tower]\n'
        f'kind = "hugging_face"\nmax_length = 24\ntokenizer = "{folder}"\n'
        f'config = {{ model_type = "bert", {inline} }}\n[keys]\n{keys}\n'
    )
    command = ["--checkpoint", str(path), "--config", str(toml), "--out", str(tmp_path / "model")]
    assert main(command) == 0
    assert load_encoder(tmp_path / "model").embed_texts(TEXTS).shape == (3, 8)
    assert main([*command[:3], str(tmp_path / "nowhere.toml"), *command[4:]]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_published_settings_can_be_read() -> None:
    settings = read_lightning_settings(CONFIG)
    assert (settings.dim, settings.mean, settings.std) == (512, 0.58, 0.26)
    assert tomllib.loads(CONFIG.read_text())["text_tower"]["max_length"] == 128
