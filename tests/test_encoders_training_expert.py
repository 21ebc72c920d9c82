"""eCLIP's curriculum, heatmap processor, mixup and objective."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.made_up_training import random_pairs
from torch import Tensor, nn

from encoders.annotations import Boxes
from encoders.eclip.model import EclipConfig, EclipModel
from encoders.training.config import Curriculum, ExpertSettings, TrainSettings
from encoders.training.dataloader import ExpertPairs, Pairs, other_rows
from encoders.training.dataset import ExpertImage, TrainingDataError
from encoders.training.heatmap_processor import HeatmapProcessor
from encoders.training.objective import Objective, equal_targets, priming_loss
from encoders.training.tensors import load_expert_tensors

# --- curriculum


@pytest.mark.parametrize(
    ("step", "chance"),
    [
        (0, 0.0),
        (999, 0.0),
        (1000, 0.05),
        (2500, 0.275),
        (3999, 0.49985),
        (4000, 0.5),
        (6000, 0.3),
        (8000, 0.1),
        (9999, 0.1),
    ],
)
def test_the_default_curriculum_is_the_papers(step: int, chance: float) -> None:
    assert Curriculum().probability(step, steps=10_000) == pytest.approx(chance, abs=1e-9)


def test_the_end_of_the_cool_down_can_be_set() -> None:
    assert Curriculum(last=0.05).probability(9000, steps=10_000) == 0.05


def test_on_average_22_percent_of_the_steps_are_expert_steps() -> None:
    """0.3 x 0.275 + 0.4 x 0.3 + 0.2 x 0.1."""
    chances = [Curriculum().probability(step, steps=10_000) for step in range(10_000)]
    assert np.mean(chances) == pytest.approx(0.2225, abs=1e-4)


def test_the_cold_start_ends_where_the_warm_up_begins() -> None:
    cold = [Curriculum().is_cold(step, steps=50) for step in range(50)]
    assert cold == [True] * 5 + [False] * 45


@pytest.mark.parametrize("wrong", [{"cold": 0.5, "warm": 0.4, "cool": 0.2}, {"peak": 1.5}])
def test_an_invalid_curriculum_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=str(next(iter(wrong.values())))):
        Curriculum(**wrong)


def test_an_invalid_curriculum_in_the_settings_is_refused() -> None:
    with pytest.raises(ValidationError, match="sum to at most 1"):
        ExpertSettings.model_validate({"curriculum": {"cold": 0.9}})


@given(count=st.integers(2, 40), seed=st.integers(0, 2**62))
def test_a_shuffled_heatmap_is_never_the_images_own(count: int, seed: int) -> None:
    rows = np.arange(count)
    others = other_rows(rows, count=count, rng=np.random.default_rng(seed))
    assert (others != rows).all()
    assert set(others) <= set(rows)


# --- heatmap processor


def small() -> HeatmapProcessor:
    torch.manual_seed(0)
    return HeatmapProcessor(width=16, patch=8, heads=2)


def test_the_papers_processor_has_0_72_million_parameters() -> None:
    """patchify 196 864, attention 263 168, linear 65 792, to_image 196 611."""
    processor = HeatmapProcessor()
    count = sum(parameter.numel() for parameter in processor.parameters())
    assert count == 196_864 + 263_168 + 65_792 + 196_611 == 722_435


def test_an_image_stays_in_shape_and_the_heatmap_counts() -> None:
    images = torch.randn(3, 3, 32, 24)
    left, right = torch.zeros(3, 32, 24), torch.zeros(3, 32, 24)
    left[..., :12], right[..., 12:] = 1, 1
    outputs = [small()(images, heat) for heat in (left, right)]
    assert outputs[0].shape == images.shape
    assert not torch.allclose(outputs[0], outputs[1])
    everywhere = torch.ones(3, 32, 24)
    torch.testing.assert_close(small()(images, everywhere), small()(images, None))


def test_priming_teaches_the_processor_to_leave_images_unchanged() -> None:
    """With smooth images, as radiographs are."""
    processor = small()
    images = nn.functional.interpolate(torch.randn(16, 3, 2, 2), (16, 16), mode="bilinear")
    optimizer = torch.optim.Adam(processor.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        loss = priming_loss(processor, images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 0.8 * float(images.pow(2).mean())
    assert losses[-1] < 0.25 * losses[0]


def test_an_image_that_does_not_divide_into_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="30x32"):
        small()(torch.zeros(1, 3, 30, 32), torch.zeros(1, 30, 32))


# --- objective


class _Tower(nn.Module):
    """Fake: mean and spread of the image as features; keeps its last input."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 2
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, pixels: Tensor) -> Tensor:
        self.last_input = pixels
        return torch.stack([pixels.mean((1, 2, 3)), pixels.std((1, 2, 3))], 1) * self.scale


class _Texts(nn.Module):
    """Fake: the prepared numbers as features."""

    width = 3

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        return prepared["rows"]


class _Mask(nn.Module):
    """Fake processor: the image times its heatmap."""

    def forward(self, images: Tensor, heatmaps: Tensor | None) -> Tensor:
        return images / 2 if heatmaps is None else images * heatmaps.unsqueeze(1)


def objective(*, processor: bool = True) -> Objective:
    torch.manual_seed(0)
    model = EclipModel(EclipConfig(dim=4, dropout=0.0, image_tower={"kind": "small_cnn"}))
    model.image_tower, model.text_tower = _Tower(), _Texts()
    model.image_projection = nn.Linear(2, 4, bias=False)
    model.text_projection = nn.Linear(3, 4, bias=False)
    settings = {"targets": {"kind": "own"}, "optim": {"agreement_weight": 0, "label_weight": 0}}
    learner = Objective(model, TrainSettings.model_validate(settings), label_counts=torch.ones(2))
    learner.processor = _Mask() if processor else None
    return learner.eval()


def test_expert_pairs_extend_the_contrastive_batch() -> None:
    learner, main, extra = objective(), random_pairs(4, 1), random_pairs(2, 2)
    heat = torch.rand(2, 8, 8)
    losses = learner(main, expert=ExpertPairs(extra, heat, 0.3))
    mixed = learner.model.image_tower.last_input
    expected = 0.3 * extra.pixels + 0.7 * extra.pixels * heat.unsqueeze(1)
    torch.testing.assert_close(mixed, expected)
    whole = Pairs(
        torch.cat([main.pixels, expected]),
        {"rows": torch.cat([main.prepared["rows"], extra.prepared["rows"]])},
        torch.cat([main.texts, extra.texts]),
        torch.cat([main.labels, extra.labels]),
        torch.cat([main.complete, extra.complete]),
    )
    torch.testing.assert_close(losses["loss"], learner(whole)["loss"])


def test_without_expert_pairs_the_processor_has_no_effect() -> None:
    main = random_pairs(4, 1)
    assert torch.equal(objective()(main)["loss"], objective(processor=False)(main)["loss"])


def test_mixed_images_do_not_change_running_statistics() -> None:
    learner, main, extra = objective().train(), random_pairs(4, 1), random_pairs(2, 2)
    learner.model.image_tower = nn.Sequential(nn.Conv2d(3, 2, 8), nn.BatchNorm2d(2), nn.Flatten())
    means = []
    for expert in (None, ExpertPairs(extra, torch.rand(2, 8, 8), 0.3)):
        nn.init.zeros_(learner.model.image_tower[1].running_mean)
        learner(main, expert=expert)
        means.append(learner.model.image_tower[1].running_mean.clone())
    assert torch.equal(*means)


def test_priming_is_weighted() -> None:
    learner, main = objective(), random_pairs(4, 1)
    plain, with_priming = learner(main)["loss"], learner(main, priming=0.1)
    expected = 0.9 * plain + 0.1 * with_priming["priming"]
    torch.testing.assert_close(with_priming["loss"], expected)


def test_equal_reports_share_the_target() -> None:
    texts = nn.functional.normalize(torch.tensor([[1.0, 2], [1, 2], [3, 0]]), dim=1)
    expected = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    assert torch.equal(equal_targets(texts), expected)


@pytest.mark.parametrize(("start", "kept"), [(1e-4, 0.01), (50.0, 2.0), (0.3, 0.3)])
def test_the_temperature_is_bounded_and_keeps_a_gradient(start: float, kept: float) -> None:
    learner = objective()
    nn.init.constant_(learner.model.log_temperature, math.log(start))
    learner.model.bound_temperature()
    assert float(learner.model.temperature.detach()) == pytest.approx(kept, rel=1e-5)
    learner(random_pairs(4, 1))["loss"].backward()
    assert learner.model.log_temperature.grad.abs() > 0


def test_expert_images_without_a_training_study_are_named(tmp_path: Path) -> None:
    image = ExpertImage("lost", Path("image.png"), Boxes(((0.1, 0.1, 0.2, 0.2),)))
    with pytest.raises(TrainingDataError, match="lost"):
        load_expert_tensors((image, image), studies=(), side=8, cache=tmp_path)
    with pytest.raises(TrainingDataError, match="at least 2"):
        load_expert_tensors((image,), studies=(), side=8, cache=tmp_path)
