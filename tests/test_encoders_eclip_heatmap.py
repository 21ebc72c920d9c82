"""The expert parts against the numbers of the paper."""

import pytest
import torch
from torch import nn

from encoders.eclip.heatmap import PROCESSORS, HeatmapProcessor, build_processor, grid_position
from encoders.packaged_weights import EncoderError
from encoders.training.objective import priming_loss

SMALL = {"attention": {"width": 16, "patch": 8, "heads": 2}, "cnn": {"width": 4}}
SMALL["identity_start"] = SMALL["attention"]


def small(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return build_processor({"kind": kind, **SMALL.get(kind, {})})


def test_the_papers_processor_has_0_72_million_parameters() -> None:
    """By hand: patchify 196 864, attention 263 168, linear 65 792, to image 196 611."""
    processor = HeatmapProcessor()
    count = sum(parameter.numel() for parameter in processor.parameters())
    assert count == 196_864 + 263_168 + 65_792 + 196_611 == 722_435


@pytest.mark.parametrize("kind", sorted(PROCESSORS))
def test_a_image_stays_in_shape_and_the_heatmap_counts(kind: str) -> None:
    processor = small(kind)
    if kind == "identity_start":
        nn.init.constant_(processor.gate, 0.5)
    images = torch.randn(3, 3, 32, 24)
    left, right = torch.zeros(3, 32, 24), torch.zeros(3, 32, 24)
    left[..., :12], right[..., 12:] = 1, 1
    seen = [processor(images, heat) for heat in (left, right)]
    assert seen[0].shape == images.shape
    assert not torch.allclose(seen[0], seen[1])


def test_the_mask_is_the_image_where_it_was_looked_at() -> None:
    images, heat = torch.randn(1, 3, 4, 4), torch.zeros(1, 4, 4)
    heat[0, 1, 2] = 1
    seen = small("mask")(images, heat)
    assert torch.equal(seen[:, :, 1, 2], images[:, :, 1, 2])
    assert seen.abs().sum() == seen[:, :, 1, 2].abs().sum()


def test_identity_at_start_is_the_identity_and_can_leave_it() -> None:
    processor = small("identity_start")
    images = torch.randn(2, 3, 16, 16)
    seen = processor(images, torch.rand(2, 16, 16))
    assert torch.equal(seen, images)
    seen.pow(2).mean().backward()
    assert processor.gate.grad.abs() > 0


def test_priming_teaches_the_processor_to_leave_a_image_alone() -> None:
    """Plain images have structure: here smooth ones, as radiographs are."""
    processor = small("attention")
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


def test_priming_of_the_mask_has_nothing_to_teach() -> None:
    assert float(priming_loss(small("mask"), torch.randn(2, 3, 8, 8))) == 0


def test_every_place_of_the_grid_has_its_own_position() -> None:
    table = grid_position(3, 5, 18)
    assert table.shape == (15, 18)
    apart = torch.cdist(table, table) + torch.eye(15)
    assert apart.min() > 0.1


def test_wrong_sizes_and_kinds_are_named() -> None:
    with pytest.raises(ValueError, match="30x32"):
        small("attention")(torch.zeros(1, 3, 30, 32), torch.zeros(1, 30, 32))
    with pytest.raises(EncoderError, match="attention"):
        build_processor({"kind": "magic"})
    with pytest.raises(EncoderError, match="depth"):
        build_processor({"kind": "cnn", "depth": 3})
