"""Less memory, the same gradient: rows in parts, blocks again, statistics of one pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from encoders.eclip.model import EclipConfig, EclipModel
from encoders.grad_cache import in_chunks, recomputed
from encoders.packaged_weights import EncoderError
from encoders.towers.base import build_image_tower
from encoders.towers.efficientnet_lite import EfficientNetLite
from encoders.training.config import OptimSettings, TargetSettings, TrainSettings
from encoders.training.init_model import init_model
from encoders.training.objective import ExpertPairs, Objective, Pairs

VIT = {
    "model_type": "vit",
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@contextmanager
def kept_bytes() -> Iterator[list[int]]:
    """How much is kept for the backward pass, tensor by tensor."""
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield sizes


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def objective(micro_batch: int) -> Objective:
    """No batch statistics and no dropout: both would be of the parts."""
    torch.manual_seed(0)
    tower = {"kind": "hugging_face", "config": VIT}
    text = {"kind": "sentence_set", "hidden": 8, "dropout": 0.0, "sentence_dropout": 0.0}
    model = EclipModel(EclipConfig(dim=8, image_tower=tower, text_tower=text, dropout=0.0))
    return Objective(
        model,
        label_weights=torch.ones(2),
        targets=TargetSettings(),
        optim=OptimSettings(micro_batch=micro_batch),
    ).train()


def pairs(count: int) -> Pairs:
    torch.manual_seed(1)
    texts = nn.functional.normalize(torch.randn(count, 5), dim=1)
    prepared = {
        "sentences": torch.randn(count, 3, 384),
        "present": torch.ones(count, 3, dtype=torch.bool),
    }
    labels = (torch.rand(count, 2) > 0.5).float()
    return Pairs(torch.randn(count, 3, 32, 32), prepared, texts, labels)


@pytest.mark.parametrize("with_expert", [False, True])
def test_the_loss_is_over_the_whole_batch_however_small_the_parts(with_expert: bool) -> None:
    main = pairs(6)
    expert = ExpertPairs(pairs(4), None, 0.4) if with_expert else None
    losses, found = [], []
    for micro_batch in (0, 4):
        one = objective(micro_batch)
        loss = one(main, expert=expert)["loss"]
        loss.backward()
        losses.append(loss.detach())
        found.append(gradients(one))
    torch.testing.assert_close(losses[0], losses[1], atol=0, rtol=1e-6)
    assert found[0].keys() == found[1].keys()
    one, two = (torch.cat([value.flatten() for value in each.values()]) for each in found)
    assert (one - two).norm() < 1e-4 * one.norm()


def test_parts_keep_less() -> None:
    main = pairs(8)
    kept = []
    for micro_batch in (0, 2):
        with kept_bytes() as sizes:
            objective(micro_batch)(main)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


def test_statistics_and_draws_are_those_of_one_pass() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 32, 32)
    found, states, kept = [], [], []
    for again in (False, True):
        torch.manual_seed(0)
        tower = EfficientNetLite("lite0", drop_path=0.5).train()
        if again:
            tower.recompute_blocks()
        torch.manual_seed(7)
        with kept_bytes() as sizes:
            features = tower(images)
        features.square().mean().backward()
        kept.append(sum(sizes))
        found.append(gradients(tower))
        states.append({k: v for k, v in tower.state_dict().items() if "running" in k})
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert kept[1] < kept[0] / 3


def test_foreign_blocks_are_recomputed_too() -> None:
    images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    tower = build_image_tower({"kind": "hugging_face", "config": VIT}).train()
    kept = []
    for again in (False, True):
        if again:
            tower.recompute_blocks()
        with kept_bytes() as sizes:
            tower(images).sum().backward()
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_a_tower_without_blocks_says_so() -> None:
    asked = {"optim": {"recompute_blocks": True}, "size": 32}
    small = {"model": {"image_tower": {"kind": "small_cnn"}}}
    with pytest.raises(EncoderError, match="SmallCnn has no blocks"):
        init_model(TrainSettings.model_validate(asked | small))
    convnext = {"model_type": "convnext", "hidden_sizes": [8, 16], "depths": [1, 1]}
    tower = {"kind": "hugging_face", "config": convnext | {"num_stages": 2}}
    with pytest.raises(EncoderError, match="micro_batch"):
        init_model(TrainSettings.model_validate(asked | {"model": {"image_tower": tower}}))


def test_nothing_is_recomputed_without_gradient() -> None:
    layer, calls = nn.Linear(2, 2), []

    def call(rows: Tensor) -> Tensor:
        calls.append(len(rows))
        return layer(rows)

    with torch.no_grad():
        recomputed(layer, call, torch.ones(3, 2))
        in_chunks(layer, call, torch.ones(5, 2), at_once=2)
    assert calls == [3, 2, 2, 1]
