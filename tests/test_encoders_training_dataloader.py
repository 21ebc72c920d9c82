"""A batch depends on the step only, not on threads, ranks or a resume."""

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.preprocess import EvalTransform
from encoders.training.augment import RankRng
from encoders.training.config import TrainSettings
from encoders.training.dataloader import BatchLoader, StepBatch
from encoders.training.tensors import ExpertTensors, TrainingTensors

STEPS = 12


def loader(
    *,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 1,
    images: int = 24,
    steps: int = STEPS,
    curriculum: dict[str, float] | None = None,
) -> BatchLoader:
    curriculum = (
        {"cold": 0.25, "first": 1, "peak": 1, "last": 1} if curriculum is None else curriculum
    )
    settings = TrainSettings.model_validate(
        {
            "size": 32,
            "num_workers": workers,
            "optim": {"batch_size": 8},
            "expert": {"curriculum": curriculum},
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
        steps=steps,
        rank=rank,
        ranks=ranks,
    )


def tensors(batch: StepBatch) -> list[Tensor]:
    main, expert = batch.main, batch.expert
    found = [main.pixels, main.labels, main.prepared["rows"], batch.rng_state]
    if expert is not None:
        found += [expert.pairs.pixels, expert.pairs.labels, expert.heatmaps]
    return found


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(workers: int) -> None:
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


def test_the_cold_start_has_priming_and_no_expert_steps() -> None:
    batches = [loader().make(step) for step in range(STEPS)]
    assert [batch.priming for batch in batches] == [0.1] * 3 + [0.0] * 9
    assert [batch.expert is not None for batch in batches] == [False] * 3 + [True] * 9


def test_expert_steps_and_mixup_follow_their_distributions() -> None:
    steps = range(STEPS * 100)
    batches = loader(steps=len(steps), curriculum={})
    drawn = [batches._is_expert_step(step) for step in steps]
    assert not any(drawn[:120])
    assert np.mean(drawn) == pytest.approx(0.2225, abs=0.04)
    rng = RankRng(torch.Generator())
    weights = [batches.expert_pairs(step, rng).image_weight for step in steps]
    assert np.mean(weights) == pytest.approx(0.5, abs=0.05)
    assert np.var(weights) == pytest.approx(1 / (4 * (2 * 0.3 + 1)), rel=0.1)  # Beta(0.3, 0.3)


def test_two_ranks_share_the_rows_of_one() -> None:
    whole, parts = loader(), [loader(rank=rank, ranks=2) for rank in (0, 1)]
    for step in (0, 5):
        one = whole.make(step)
        for rank, part in enumerate(parts):
            two = part.make(step)
            assert two.main.pixels.equal(one.main.pixels[rank::2])
            assert two.main.labels.equal(one.main.labels[rank::2])
            if one.expert is not None:
                assert two.expert is not None
                assert two.expert.image_weight == one.expert.image_weight
                assert two.expert.pairs.pixels.equal(one.expert.pairs.pixels[rank::2])
                assert two.expert.heatmaps.equal(one.expert.heatmaps[rank::2])


def test_an_exception_in_a_worker_reaches_the_caller() -> None:
    broken = loader()
    broken._data.images.resize((4, 40, 40), refcheck=False)
    with pytest.raises(IndexError):
        next(broken.batches())
