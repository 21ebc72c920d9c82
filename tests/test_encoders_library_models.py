"""Models of open_clip, timm and torchxrayvision, tiny and random, in their published layouts.

Each library is an optional extra; a test is skipped by name where its library is missing.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.published_models import IMAGES, as_picture
from support.tiny_models import TEXTS, tiny_bert

from encoders.base import CxrImage, embeds_texts
from encoders.packaged_weights import EncoderError
from encoders.registry import load_encoder


def missing(*modules: str) -> pytest.MarkDecorator:
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


open_clip_only = missing("open_clip")
timm_only = missing("timm")
xrv_only = missing("torchxrayvision", "torchvision")


def randomise(model: Any) -> Any:
    """Default initialisations are so small that all vectors of a random model are one."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def assert_same_directions(found: Any, expected: torch.Tensor) -> None:
    unit = torch.nn.functional.normalize(expected, dim=-1).numpy()
    np.testing.assert_allclose(found, unit, rtol=0, atol=1e-4)
    assert np.ptp(found, axis=0).max() > 1e-3, "all vectors are the same"


def publish_open_clip(folder: Path, text: dict[str, Any], *, weights: str = "") -> Path:
    """The layout of BiomedCLIP's repository: open_clip_config.json, weights, tokenizer."""
    import open_clip  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    vision = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
    config = {
        "model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]},
    }
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    bare = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    state = {name: value.clone() for name, value in randomise(bare).state_dict().items()}
    if weights:
        torch.save(state, folder / weights)
    else:
        save_file(state, folder / "open_clip_model.safetensors")
    return folder


CLIP_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def biomed_text(folder: Path) -> dict[str, Any]:
    """A BERT with its own tokenizer, as BiomedCLIP has; its files go into the model's folder."""
    bert = tiny_bert(folder, with_weights=False)
    return {
        "hf_model_name": str(bert),
        "hf_tokenizer_name": str(bert),
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 32,
    }


@open_clip_only
@pytest.mark.parametrize("kind", ["clip", "biomed"])
def test_open_clip_gives_its_own_vectors(kind: str, tmp_path: Path) -> None:
    import open_clip  # noqa: PLC0415

    folder = tmp_path / "model"
    publish_open_clip(folder, CLIP_TEXT if kind == "clip" else biomed_text(folder))
    where = f"local-dir:{folder}"
    model, transform = open_clip.create_model_from_pretrained(where)
    model.eval()
    tokenizer = open_clip.get_tokenizer(where)
    encoder = load_encoder(f"open_clip:{folder}")
    with torch.no_grad():
        pixels = torch.stack([transform(as_picture(image)) for image in IMAGES])
        assert_same_directions(encoder.embed_images(IMAGES), model.encode_image(pixels))
        assert_same_directions(encoder.embed_texts(TEXTS), model.encode_text(tokenizer(TEXTS)))
    alone = encoder.embed_texts([TEXTS[0]])[0]
    np.testing.assert_allclose(alone, encoder.embed_texts(TEXTS)[0], atol=1e-5)


@open_clip_only
def test_mean_and_deviation_of_open_clip_are_part_of_the_identity(tmp_path: Path) -> None:
    folder = publish_open_clip(tmp_path / "model", CLIP_TEXT)
    first = load_encoder(f"open_clip:{folder}")
    path = folder / "open_clip_config.json"
    path.write_text(path.read_text().replace("0.48", "0.5"))
    assert load_encoder(f"open_clip:{folder}").preprocess_hash != first.preprocess_hash


def test_offline_open_clip_names_the_download_command(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open_clip", reason="not installed: open_clip")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="hf download microsoft/BiomedCLIP --local-dir"):
        load_encoder("open_clip:hf-hub:microsoft/BiomedCLIP")


@open_clip_only
@pytest.mark.parametrize("kind", ["pickle", "cut", "no config", "no weights", "no tokenizer"])
def test_a_bad_open_clip_folder_is_an_encoder_error(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    publish_open_clip(
        folder,
        biomed_text(folder) if kind == "no tokenizer" else CLIP_TEXT,
        weights="open_clip_pytorch_model.bin" if kind == "pickle" else "",
    )
    weights = folder / "open_clip_model.safetensors"
    match kind:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "no config":
            (folder / "open_clip_config.json").unlink()
        case "no weights":
            weights.unlink()
        case "no tokenizer":
            for path in folder.glob("tokenizer*"):
                path.unlink()
    with pytest.raises(EncoderError, match=r"safetensors|restore|no tokenizer"):
        load_encoder(f"open_clip:{folder}")


def publish_timm(folder: Path, *, channels: int = 3) -> Path:
    """The layout of timm's hub repositories: config.json with the architecture, weights."""
    import timm  # noqa: PLC0415
    from timm.models import save_for_hf  # noqa: PLC0415

    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    args = {**sizes, "in_chans": channels}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, **args)
    half = (0.5,) * channels
    model.pretrained_cfg |= {"input_size": (channels, 32, 32), "mean": half, "std": half}
    save_for_hf(randomise(model), folder, model_args=args, safe_serialization=True)
    return folder


@timm_only
@pytest.mark.parametrize("channels", [1, 3])
def test_timm_gives_its_own_image_vectors(channels: int, tmp_path: Path) -> None:
    import timm  # noqa: PLC0415

    folder = publish_timm(tmp_path / "tiny-vit", channels=channels)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    encoder = load_encoder(f"image:timm:{folder}")
    mode = "L" if channels == 1 else "RGB"
    with torch.no_grad():
        pixels = torch.stack([transform(as_picture(image, mode)) for image in IMAGES])
        assert_same_directions(encoder.embed_images(IMAGES), model(pixels))
    assert encoder.encoder_id.startswith("tiny-vit@")
    assert not embeds_texts(encoder)


@timm_only
def test_bad_timm_models_are_encoder_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish_timm(tmp_path / "tiny-vit")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(EncoderError, match="whole"):
        load_encoder(f"image:timm:{folder}")
    weights.unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="pickle"):
        load_encoder(f"image:timm:{folder}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=r"hf download timm/resnet18\.a1_in1k"):
        load_encoder("image:timm:resnet18.a1_in1k")


def xrv_image(image: CxrImage, xrv: Any) -> Any:
    """As torchxrayvision's README prepares an image."""
    pixels = xrv.datasets.normalize(np.rint(image.pixels * 255).astype(np.uint8), 255)[None]
    return xrv.datasets.XRayResizer(224)(xrv.datasets.XRayCenterCrop()(pixels))


@xrv_only
def test_torchxrayvision_gives_its_own_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchxrayvision as xrv  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    name = "densenet121-res224-all"
    monkeypatch.setattr(xrv.utils, "get_cache_dir", lambda: str(tmp_path))
    with pytest.raises(EncoderError, match="save_file"):
        load_encoder(f"image:torchxrayvision:{name}")
    torch.manual_seed(0)
    model = xrv.models.DenseNet(num_classes=18).eval()
    state = model.state_dict() | {"op_threshs": torch.zeros(18)}  # as a published one has
    save_file(state, tmp_path / f"{name}.safetensors")
    encoder = load_encoder(f"image:torchxrayvision:{name}")
    pixels = torch.from_numpy(np.stack([xrv_image(image, xrv) for image in IMAGES])).float()
    with torch.no_grad():
        assert_same_directions(encoder.embed_images(IMAGES), model.features2(pixels))
    (tmp_path / f"{name}.safetensors").write_bytes(b"not weights")
    with pytest.raises(EncoderError, match="whole"):
        load_encoder(f"image:torchxrayvision:{name}")
    with pytest.raises(EncoderError, match=name):
        load_encoder("image:torchxrayvision:densenet9")


def test_an_incomplete_file_of_torchxrayvision_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    name = "densenet121-res224-all"
    xrv = SimpleNamespace(  # what is asked of the library until the weights are read
        models=SimpleNamespace(
            model_urls={name: {"input_resolution": 224, "labels": ["Effusion"]}},
            DenseNet=lambda num_classes: torch.nn.Linear(4, num_classes),
        ),
        utils=SimpleNamespace(get_cache_dir=lambda: str(tmp_path)),
    )
    monkeypatch.setitem(sys.modules, "torchxrayvision", xrv)
    save_file({"bias": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(EncoderError, match="lacks 1 weights of its model, weight first"):
        load_encoder(f"image:torchxrayvision:{name}")


@pytest.mark.parametrize("library", ["open_clip", "timm", "torchxrayvision"])
def test_a_missing_library_names_the_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    prefix = "open_clip:" if library == "open_clip" else f"image:{library}:"
    with pytest.raises(EncoderError, match=rf"pip install 'cxr-rag\[{library}\]'"):
        load_encoder(f"{prefix}some/model")
