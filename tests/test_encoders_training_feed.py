"""What a step sees does not depend on who makes it, when, or for how many ranks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.preprocess import EvalTransform
from encoders.training.batches import TrainingSet
from encoders.training.config import TrainSettings
from encoders.training.dataloader import BatchLoader, StepBatch
from encoders.training.experts import ExpertSet

STEPS = 12


def feed(*, rank: int = 0, ranks: int = 1, loaders: int = 1, images: int = 24) -> BatchLoader:
    settings = TrainSettings.model_validate(
        {
            "size": 32,
            "loaders": loaders,
            "optim": {"batch_size": 8},
            "expert": {"curriculum": {"cold": 0.25, "first": 1, "peak": 1, "last": 1}},
        }
    )
    pixels = np.random.default_rng(0).integers(0, 255, (images, 40, 40), dtype=np.uint8)
    rows = torch.arange(images)
    labels, texts = rows[:, None].float(), torch.zeros(images, 3)
    data = TrainingSet(pixels, rows, {"rows": labels}, texts, labels, ("x",))
    return BatchLoader(
        settings,
        data=data,
        experts=ExpertSet(pixels[:6], pixels[6:12], rows[:6]),
        transform=EvalTransform(size=32),
        steps=STEPS,
        rank=rank,
        ranks=ranks,
    )


def tensors(seen: StepBatch) -> list[Tensor]:
    found = [seen.main.pixels, seen.main.labels, seen.main.prepared["rows"], seen.state]
    if seen.expert is not None:
        assert seen.expert.heatmaps is not None
        found += [seen.expert.pairs.pixels, seen.expert.pairs.labels, seen.expert.heatmaps]
    return found


@pytest.mark.parametrize("loaders", [1, 3])
def test_made_ahead_is_the_same_to_the_bit(loaders: int) -> None:
    plain, ahead = feed(), feed(loaders=loaders)
    torch.manual_seed(5)
    with ahead.loading_ahead():
        for step in range(3, STEPS):  # as after a resume
            torch.rand(step)  # what the step itself draws, meanwhile
            one, two = plain.make(step), ahead.take(step)
            assert (one.expert is None) == (two.expert is None)
            assert one.priming == two.priming
            assert all(a.equal(b) for a, b in zip(tensors(one), tensors(two), strict=True))


def test_priming_in_the_cold_start_experts_after_it() -> None:
    seen = [feed().make(step) for step in range(STEPS)]
    assert [one.priming for one in seen] == [0.1] * 3 + [0.0] * 9
    assert [one.expert is not None for one in seen] == [False] * 3 + [True] * 9


def test_two_ranks_see_together_what_one_sees() -> None:
    whole, parts = feed(), [feed(rank=rank, ranks=2) for rank in (0, 1)]
    for step in (0, 5):
        one = whole.make(step)
        for rank, part in enumerate(parts):
            two = part.make(step)
            assert two.main.pixels.equal(one.main.pixels[rank::2])
            assert two.main.labels.equal(one.main.labels[rank::2])
            if one.expert is not None:
                assert two.expert is not None
                assert two.expert.share == one.expert.share
                assert two.expert.pairs.pixels.equal(one.expert.pairs.pixels[rank::2])
                assert two.expert.heatmaps.equal(one.expert.heatmaps[rank::2])


def test_a_fault_in_a_loader_reaches_the_loop_and_ends_it() -> None:
    broken = feed()
    broken._data.images.resize((4, 40, 40), refcheck=False)
    with pytest.raises(IndexError), broken.loading_ahead():
        broken.take(0)
    assert broken._pool is None
