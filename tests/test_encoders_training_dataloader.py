"""What a step sees does not depend on who makes it, when, or for how many ranks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.preprocess import EvalTransform
from encoders.training.config import TrainSettings
from encoders.training.dataloader import BatchLoader, StepBatch
from encoders.training.training_set import ExpertTensors, TrainingTensors

STEPS = 12


def loader(*, rank: int = 0, ranks: int = 1, workers: int = 1, images: int = 24) -> BatchLoader:
    settings = TrainSettings.model_validate(
        {
            "size": 32,
            "num_workers": workers,
            "optim": {"batch_size": 8},
            "expert": {"curriculum": {"cold": 0.25, "first": 1, "peak": 1, "last": 1}},
        }
    )
    pixels = np.random.default_rng(0).integers(0, 255, (images, 40, 40), dtype=np.uint8)
    rows = torch.arange(images)
    labels, texts = rows[:, None].float(), torch.zeros(images, 3)
    data = TrainingTensors(pixels, rows, {"rows": labels}, texts, labels, ("x",), rows > -1)
    return BatchLoader(
        settings,
        data=data,
        experts=ExpertTensors(pixels[:6], pixels[6:12], rows[:6]),
        transform=EvalTransform(size=32),
        steps=STEPS,
        rank=rank,
        ranks=ranks,
    )


def tensors(seen: StepBatch) -> list[Tensor]:
    found = [seen.main.pixels, seen.main.labels, seen.main.prepared["rows"], seen.state]
    if seen.expert is not None:
        found += [seen.expert.pairs.pixels, seen.expert.pairs.labels, seen.expert.heatmaps]
    return found


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_batch_is_the_same_to_the_bit_whoever_prepares_it(workers: int) -> None:
    plain, ahead = loader(), loader(workers=workers)
    torch.manual_seed(5)
    resumed = enumerate(ahead.batches(3), start=3)
    for step, two in resumed:
        torch.rand(step)  # what the step itself draws, meanwhile
        one = plain.make(step)
        assert (one.expert is None) == (two.expert is None)
        assert one.priming == two.priming
        assert all(a.equal(b) for a, b in zip(tensors(one), tensors(two), strict=True))
    assert step == STEPS - 1


def test_priming_in_the_cold_start_experts_after_it() -> None:
    seen = [loader().make(step) for step in range(STEPS)]
    assert [one.priming for one in seen] == [0.1] * 3 + [0.0] * 9
    assert [one.expert is not None for one in seen] == [False] * 3 + [True] * 9


def test_two_ranks_see_together_what_one_sees() -> None:
    whole, parts = loader(), [loader(rank=rank, ranks=2) for rank in (0, 1)]
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


def test_a_fault_in_a_worker_reaches_the_loop() -> None:
    broken = loader()
    broken._data.images.resize((4, 40, 40), refcheck=False)
    with pytest.raises(IndexError):
        next(broken.batches())
