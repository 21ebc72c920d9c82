"""CLIP models of several tower families, tiny and random: train, save, load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny_models import TEXTS, tiny_bert
from torch import nn

from encoders.eclip.model import EclipConfig, EclipModel, load_pretrained, save_pretrained
from encoders.packaged_weights import EncoderError
from encoders.preprocess import EvalTransform
from encoders.towers.base import build_image_tower, build_text_tower
from encoders.towers.hugging_face import pretrained_tower_settings
from encoders.training.config import TrainSettings
from encoders.training.objective import ExpertPairs, Objective, Pairs
from encoders.training.train import init_model

SIDE = 32
Settings = dict[str, Any]
SMALL: Settings = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
VIT: Settings = {"model_type": "vit", "image_size": SIDE, "patch_size": 8, **SMALL}
SWIN: Settings = {
    "model_type": "swin",
    "image_size": SIDE,
    "patch_size": 4,
    "embed_dim": 12,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
}
CONVNEXT: Settings = {"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1]}
CONVNEXT["num_stages"] = 2
BERT: Settings = {"model_type": "bert", "vocab_size": 200, **SMALL}
PICTURES: Settings = {"image_size": SIDE, "patch_size": 8, **SMALL}
WORDS: Settings = {"vocab_size": 200, "max_position_embeddings": 32, **SMALL}
VARIANTS = [
    "vit and bert",
    "swin and bert",
    "convnext and bert",
    "clip",
    "siglip",
    "vision-text-dual-encoder",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_bert(tmp_path_factory.mktemp("bert"), with_weights=False))


def towers(variant: str, tokenizer: str, folder: Path) -> tuple[Settings, Settings]:
    text = {"kind": "hugging_face", "config": BERT, "tokenizer": tokenizer, "max_length": 24}
    images: Settings = {"vit": VIT, "swin": SWIN, "convnext": CONVNEXT}
    if variant.endswith(" and bert"):
        return {"kind": "hugging_face", "config": images[variant.split(maxsplit=1)[0]]}, text
    if variant in {"clip", "siglip"}:
        ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
        config = {"model_type": variant, "vision_config": PICTURES, "text_config": WORDS | ends}
    else:
        config = {"model_type": variant, "vision_config": SWIN, "text_config": BERT}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    image, words = (pretrained_tower_settings(folder, role=role) for role in ("image", "text"))
    return image, words | {"tokenizer": tokenizer, "max_length": 24}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_saves_and_loads(variant: str, tokenizer: str, tmp_path: Path) -> None:
    image, text = towers(variant, tokenizer, tmp_path / "published")
    torch.manual_seed(0)
    model = EclipModel(EclipConfig(dim=16, image_tower=image, text_tower=text, dropout=0.0))
    settings = {
        "targets": {"kind": "own"},
        "optim": {"agreement_weight": 0, "label_weight": 0},
        "expert": {"processor": {"patch": 8, "width": 16, "heads": 2}},
    }
    objective = Objective(
        model, TrainSettings.model_validate(settings), label_counts=torch.ones(1)
    ).train()
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    before = {name: value.clone() for name, value in model.named_parameters()}
    prepared = model.prepare_texts(TEXTS)
    images, vectors = torch.randn(3, 3, SIDE, SIDE), nn.functional.normalize(torch.randn(3, 5))
    pairs = Pairs(images, prepared, vectors, torch.zeros(3, 1), torch.ones(3).bool())
    for expert in (None, None, *[ExpertPairs(pairs, torch.rand(3, SIDE, SIDE), 0.4)] * 2):
        loss = objective(pairs, expert=expert)["loss"]
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert any(name.startswith("image_tower.") for name in moved)
    assert any(name.startswith("text_tower.") for name in moved)

    save_pretrained(tmp_path, model=model, transform=EvalTransform(size=SIDE))
    again, _ = load_pretrained(tmp_path)
    assert not any("processor" in name for name in again.state_dict())
    model.eval()
    with torch.no_grad():
        one = model.encode_image(images), model.encode_text(prepared)
        two = again.encode_image(images), again.encode_text(again.prepare_texts(TEXTS))
    for ours, theirs in zip(one, two, strict=True):
        assert ours.shape == (3, 16)
        torch.testing.assert_close(
            ours, theirs, atol=1e-6, rtol=0
        )  # without gradients other kernels run
        torch.testing.assert_close(ours.norm(dim=1), torch.ones(3))

    settings["model"] = {"start_from": tmp_path, "image_tower": image, "text_tower": text}
    continued, _ = init_model(TrainSettings.model_validate(settings | {"name": "next"}))
    assert continued.config.name == "next"


def test_swins_features_have_the_width_of_the_last_stage() -> None:
    """Swin's config says embed_dim 12, but after two stages the features have 24."""
    tower = build_image_tower({"kind": "hugging_face", "config": SWIN})
    assert tower.width == 24
    assert tower(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, 24)


def test_a_texts_features_do_not_depend_on_the_batch(tokenizer: str) -> None:
    tower = build_text_tower(
        {"kind": "hugging_face", "config": BERT, "tokenizer": tokenizer, "max_length": 24}
    ).eval()
    with torch.no_grad():
        alone, together = tower(tower.prepare(TEXTS[:1])), tower(tower.prepare(TEXTS))
    torch.testing.assert_close(alone[0], together[0], atol=1e-6, rtol=0)


def test_an_unknown_model_or_pooling_is_refused(tokenizer: str) -> None:
    with pytest.raises(EncoderError, match="magic"):
        build_image_tower({"kind": "hugging_face", "config": {"model_type": "magic"}})
    with pytest.raises(EncoderError, match="pooling"):
        build_text_tower(
            {"kind": "hugging_face", "config": BERT, "tokenizer": tokenizer, "pooling": "max"}
        )
