"""Loading an encoder by name; a published model gives its publisher's vectors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.published_models import CLIP_PROCESSOR, IMAGES, TINY, VISION, as_picture, publish
from support.tiny_models import TEXTS, tiny_bert
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
)

from encoders.base import ImageTextEncoder, embeds_texts
from encoders.packaged_weights import SHIPPED_ENCODER, EncoderError
from encoders.registry import load_encoder

WORDS = {"vocab_size": 200, "max_position_embeddings": 24, "eos_token_id": 3, **TINY}

SIGLIP_PROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
NAFLEX_PROCESSOR = {
    "image_processor_type": "Siglip2ImageProcessor",
    "patch_size": 8,
    "max_num_patches": 16,
}


def clip(_: Path) -> tuple[Any, dict[str, Any]]:
    config = CLIPConfig(text_config=WORDS, vision_config=VISION, projection_dim=16)
    return CLIPModel(config), CLIP_PROCESSOR


def siglip(_: Path) -> tuple[Any, dict[str, Any]]:
    config = SiglipConfig(text_config=WORDS | {"projection_size": 32}, vision_config=VISION)
    return SiglipModel(config), SIGLIP_PROCESSOR


def siglip2(_: Path) -> tuple[Any, dict[str, Any]]:
    vision = TINY | {"patch_size": 8, "num_patches": 16}
    config = Siglip2Config(text_config=WORDS | {"projection_size": 32}, vision_config=vision)
    return Siglip2Model(config), NAFLEX_PROCESSOR


def dual(bert: Path) -> tuple[Any, dict[str, Any]]:
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**VISION), BertConfig.from_pretrained(bert), projection_dim=16
    )
    return VisionTextDualEncoderModel(config), CLIP_PROCESSOR


Published = Callable[[Path], tuple[Any, dict[str, Any]]]
PAIRS = [clip, siglip, siglip2, dual]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def clip_folder(bert: Path, tmp_path: Path) -> Path:
    return publish(tmp_path / "tiny-clip", *clip(bert), bert)


@pytest.mark.parametrize("published", PAIRS, ids=lambda make: make.__name__)
def test_a_pair_gives_the_vectors_of_transformers(
    published: Published, bert: Path, tmp_path: Path
) -> None:
    folder = publish(tmp_path / "model", *published(bert), bert)
    model = AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pixels = processor([as_picture(image) for image in IMAGES], return_tensors="pt")
    context = min(model.config.text_config.max_position_embeddings, tokenizer.model_max_length)
    tokens = tokenizer(
        TEXTS, padding="max_length", truncation=True, max_length=context, return_tensors="pt"
    )
    with torch.no_grad():
        theirs = [model.get_image_features(**pixels), model.get_text_features(**tokens)]
    encoder = load_encoder(f"hf:{folder}")
    ours = [encoder.embed_images(IMAGES), encoder.embed_texts(TEXTS)]
    for found, output in zip(ours, theirs, strict=True):
        expected = torch.nn.functional.normalize(output.pooler_output, dim=-1).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        assert found.dtype == np.float32
        assert found.shape == (3, encoder.dim)
    assert np.ptp(ours[0], axis=0).max() > 1e-3, "all vectors are the same"


def test_a_vision_model_embeds_images_only(bert: Path, tmp_path: Path) -> None:
    model = Dinov2Model(Dinov2Config(**VISION)).eval()
    folder = publish(tmp_path / "tiny-dino", model, CLIP_PROCESSOR, bert)
    encoder = load_encoder(f"image:hf:{folder}")
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor([as_picture(image) for image in IMAGES], return_tensors="pt")
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model(**pixels).pooler_output, dim=-1)
    np.testing.assert_allclose(encoder.embed_images(IMAGES), expected.numpy(), rtol=0, atol=1e-4)
    assert not embeds_texts(encoder)
    with pytest.raises(EncoderError, match="image:hf:"):
        load_encoder(f"hf:{folder}")


def test_an_input_alone_and_in_a_batch_gives_the_same_vector(clip_folder: Path) -> None:
    encoder = load_encoder(f"hf:{clip_folder}")
    together, texts = encoder.embed_images(IMAGES), encoder.embed_texts(TEXTS)
    for row, (image, text) in enumerate(zip(IMAGES, TEXTS, strict=True)):
        np.testing.assert_allclose(encoder.embed_images([image])[0], together[row], atol=1e-5)
        np.testing.assert_allclose(encoder.embed_texts([text])[0], texts[row], atol=1e-5)
    assert encoder.embed_images([]).shape == (0, encoder.dim)
    with pytest.raises(ValueError, match="empty"):
        encoder.embed_texts([" "])


def test_a_published_model_runs_on_a_gpu_if_there_is_one(
    clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        "encoders.pretrained._GPU_DEVICE", "meta"
    )  # computes shapes, and no numbers
    with pytest.raises(NotImplementedError, match="out of meta tensor"):  # the result, to the CPU
        load_encoder(f"hf:{clip_folder}")


def test_the_identity_follows_weights_and_processor(clip_folder: Path) -> None:
    first = load_encoder(f"hf:{clip_folder}")
    assert first.encoder_id.startswith("tiny-clip@")
    (clip_folder / "preprocessor_config.json").write_text(json.dumps(CLIP_PROCESSOR | {"size": 48}))
    other = load_encoder(f"hf:{clip_folder}")
    assert other.preprocess_hash != first.preprocess_hash
    assert other.encoder_id != first.encoder_id


def test_a_folder_is_recognised_by_its_config(clip_folder: Path) -> None:
    assert load_encoder(clip_folder).encoder_id == load_encoder(f"hf:{clip_folder}").encoder_id
    shipped = load_encoder()
    for name in (SHIPPED_ENCODER, str(SHIPPED_ENCODER), f"eclip:{SHIPPED_ENCODER}"):
        same: ImageTextEncoder = load_encoder(name)
        assert same.encoder_id == shipped.encoder_id
    assert load_encoder("eclip", backend="torch").encoder_id == shipped.encoder_id


@pytest.mark.parametrize("name", ["nowhere/at-all", "eclip-lite9", "open:clip"])
def test_an_unknown_name_lists_the_known_forms(name: str) -> None:
    with pytest.raises(EncoderError, match="hf:"):
        load_encoder(name)


def test_offline_the_error_names_the_download_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="hf download somebody/some-clip --local-dir"):
        load_encoder("hf:somebody/some-clip")


def damaged(folder: Path, kind: str) -> None:
    weights = folder / "model.safetensors"
    match kind:
        case "no config":
            (folder / "config.json").unlink()
        case "no processor":
            (folder / "preprocessor_config.json").unlink()
        case "no tokenizer":
            for path in folder.glob("tokenizer*"):
                path.unlink()
        case "cut weights":
            weights.write_bytes(weights.read_bytes()[:-1000])
        case "pickle":
            torch.save(AutoModel.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
            weights.unlink()
        case "other weights":
            Dinov2Model(Dinov2Config(**VISION)).save_pretrained(folder / "other")
            shutil.copy(folder / "other" / "model.safetensors", weights)


@pytest.mark.parametrize(
    "kind",
    ["no config", "no processor", "no tokenizer", "cut weights", "pickle", "other weights"],
)
def test_a_damaged_or_unsafe_model_is_an_encoder_error(clip_folder: Path, kind: str) -> None:
    damaged(clip_folder, kind)
    with pytest.raises(EncoderError):
        load_encoder(f"hf:{clip_folder}")
