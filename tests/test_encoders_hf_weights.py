"""Towers from Hugging Face folders, and a saved model with such a tower."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.published_models import TINY, VISION, made_up_image, publish
from support.tiny_models import TEXTS, tiny_bert
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    CLIPConfig,
    CLIPModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from encoders.eclip.encoder import load_encoder
from encoders.eclip.model import EclipConfig, EclipModel, load_pretrained, save_pretrained
from encoders.packaged_weights import EncoderError
from encoders.preprocess import EvalTransform
from encoders.towers.base import build_image_tower, build_text_tower
from encoders.towers.hugging_face import load_pretrained_tower, pretrained_tower_settings
from encoders.training.config import TrainSettings
from encoders.training.train import init_model

SIDE = VISION["image_size"]
VIT = ViTConfig(**VISION)
WORDS = {"vocab_size": 200, "max_position_embeddings": 128, "eos_token_id": 3, **TINY}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


def test_towers_give_what_the_published_model_gives(bert: Path, tmp_path: Path) -> None:
    vit = ViTModel(VIT)
    folder = publish(tmp_path / "vit", vit, {}, bert)
    settings = TrainSettings.model_validate(
        {"size": SIDE, "model": {"dim": 16, "image_weights": folder, "text_weights": bert}}
    )
    model, _ = init_model(settings)
    model.eval()
    images = torch.randn(2, 3, SIDE, SIDE)
    pieces = model.prepare_texts(TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(
            model.image_features(images), vit.eval()(pixel_values=images).pooler_output
        )
        theirs = BertModel.from_pretrained(bert).eval()(**pieces).last_hidden_state[:, 0]
        torch.testing.assert_close(model.text_features(pieces), theirs)


@pytest.mark.parametrize("kind", ["clip", "vision-text-dual-encoder"])
def test_both_towers_of_a_pair_give_its_vectors(kind: str, bert: Path, tmp_path: Path) -> None:
    if kind == "clip":
        whole: Any = CLIPModel(CLIPConfig(text_config=WORDS, vision_config=VISION))
    else:
        pair = VisionTextDualEncoderConfig.from_vision_text_configs(
            VIT, BertConfig.from_pretrained(bert)
        )
        whole = VisionTextDualEncoderModel(pair)
    folder = publish(tmp_path / kind, whole, {}, bert)
    whole.eval()
    images = torch.randn(2, 3, SIDE, SIDE)
    image = build_image_tower(pretrained_tower_settings(folder, role="image")).eval()
    load_pretrained_tower(image, folder, role="image")
    text = build_text_tower(
        pretrained_tower_settings(folder, role="text") | {"max_length": 24}
    ).eval()
    load_pretrained_tower(text, folder, role="text")
    pieces = text.prepare(TEXTS)
    with torch.no_grad():
        seen = whole.vision_model(pixel_values=images)
        torch.testing.assert_close(image(images), seen.pooler_output)
        read = whole.text_model(**pieces)
        wanted = read.pooler_output if kind == "clip" else read.last_hidden_state[:, 0]
        torch.testing.assert_close(text(pieces), wanted)


def test_an_unused_pooler_may_be_missing(bert: Path, tmp_path: Path) -> None:
    """Language models are published without it, classifiers of images too."""
    words = BertForMaskedLM(BertConfig.from_pretrained(bert))
    folder = publish(tmp_path / "mlm", words, {}, bert)
    text = build_text_tower(pretrained_tower_settings(folder, role="text"))
    load_pretrained_tower(text, folder, role="text")
    for name, value in words.bert.state_dict().items():
        assert text.model.state_dict()[name].equal(value)

    folder = publish(tmp_path / "classifier", ViTForImageClassification(VIT), {}, bert)
    image = build_image_tower(pretrained_tower_settings(folder, role="image"))
    with pytest.raises(EncoderError, match="lacks 2 weights of the image tower, pooler"):
        load_pretrained_tower(image, folder, role="image")


def test_a_folder_without_weights_or_config_is_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"config\.json"):
        pretrained_tower_settings(tmp_path, role="image")
    empty = tiny_bert(tmp_path / "empty", with_weights=False)
    text = build_text_tower(pretrained_tower_settings(empty, role="text"))
    with pytest.raises(EncoderError, match="cannot read the weights"):
        load_pretrained_tower(text, empty, role="text")


def test_a_saved_model_includes_its_tokenizer(bert: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(bert, tmp_path / "bert"))
    text = {"kind": "hugging_face", "config": BertConfig.from_pretrained(bert).to_dict()}
    text |= {"tokenizer": str(source), "max_length": 24}
    image = {"kind": "small_cnn", "channels": 4}
    model = EclipModel(EclipConfig(dim=8, image_tower=image, text_tower=text)).eval()
    with torch.no_grad():
        before = model.encode_text(model.prepare_texts(TEXTS))
    save_pretrained(tmp_path / "model", model=model, transform=EvalTransform(size=SIDE))
    shutil.rmtree(source)
    moved = Path(shutil.move(tmp_path / "model", tmp_path / "elsewhere"))
    assert str(tmp_path) not in (moved / "config.json").read_text()

    again, transform = load_pretrained(moved)
    assert not again.training
    with torch.no_grad():
        torch.testing.assert_close(again.encode_text(again.prepare_texts(TEXTS)), before)
    assert transform(made_up_image(40, 30)).shape == (3, SIDE, SIDE)

    identity = load_encoder(moved).encoder_id
    save_pretrained(tmp_path / "copy", model=again, transform=transform)
    assert load_encoder(tmp_path / "copy").encoder_id == identity
    words = json.loads((moved / "tokenizer" / "tokenizer.json").read_text())
    words["model"]["vocab"]["heart"] = words["model"]["vocab"].get("lungs", 5)
    (moved / "tokenizer" / "tokenizer.json").write_text(json.dumps(words))
    assert load_encoder(moved).encoder_id != identity

    shutil.rmtree(moved / "tokenizer")
    with pytest.raises(EncoderError, match="no tokenizer"):
        load_pretrained(moved)[0].prepare_texts(TEXTS)
