"""Two processes that train as one: the same loss and the same gradient."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch import multiprocessing as mp

from encoders.eclip.heatmap import build_processor
from encoders.eclip.model import EclipConfig, EclipModel
from encoders.eclip.ranks import gather
from encoders.training.config import OptimSettings, TargetSettings
from encoders.training.objective import ExpertPairs, Objective, Pairs

RANKS = 2


class _Texts(nn.Module):
    """Fake: one linear layer on the prepared numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 3
        self.linear = nn.Linear(3, 3)

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        return self.linear(prepared["rows"])


class _Films(nn.Module):
    """Fake: convolution and mean; no batch statistics, which ranks do not share."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 4
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.conv(pixels).relu().mean((2, 3))


def objective() -> Objective:
    torch.manual_seed(0)
    model = EclipModel(EclipConfig(dim=4, dropout=0.0, image_tower={"kind": "small_cnn"}))
    model.image_tower, model.text_tower = _Films(), _Texts()
    model.image_projection = nn.Linear(4, 4, bias=False)
    model.text_projection = nn.Linear(3, 4, bias=False)
    return Objective(
        model,
        label_weights=torch.ones(2),
        targets=TargetSettings(),
        optim=OptimSettings(),
        processor=build_processor({"kind": "cnn", "width": 4}),
    ).train()


def pairs(count: int, seed: int) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    texts = nn.functional.normalize(torch.randn(count, 5, generator=generator), dim=1)
    rows = torch.randn(count, 3, generator=generator)
    films = torch.randn(count, 3, 8, 8, generator=generator)
    labels = (torch.rand(count, 2, generator=generator) > 0.5).float()
    return Pairs(films, {"rows": rows}, texts, labels)


def part(whole: Pairs, rank: int) -> Pairs:
    return Pairs(
        whole.pixels[rank::RANKS],
        {"rows": whole.prepared["rows"][rank::RANKS]},
        whole.texts[rank::RANKS],
        whole.labels[rank::RANKS],
    )


def losses_of(module: nn.Module, rank: int | None, *, with_expert: bool) -> dict[str, Tensor]:
    main, extra = pairs(8, 1), pairs(4, 2)
    heat = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(3))
    if rank is not None:
        main, extra, heat = part(main, rank), part(extra, rank), heat[rank::RANKS]
    expert = ExpertPairs(extra, heat, 0.4) if with_expert else None
    return module(main, expert=expert, priming=0.0 if with_expert else 0.1)


def work(rank: int, folder: str, with_expert: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS
    )
    ours = nn.parallel.DistributedDataParallel(objective(), find_unused_parameters=True)
    losses = losses_of(ours, rank, with_expert=with_expert)
    losses["loss"].backward()
    gradients = {name: p.grad for name, p in ours.module.named_parameters()}
    torch.save((losses["loss"].detach(), gradients), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("with_expert", [True, False], ids=["expert step", "priming step"])
@pytest.mark.filterwarnings("ignore:find_unused_parameters:UserWarning")
def test_two_processes_have_the_loss_and_gradient_of_one(tmp_path: Path, with_expert: bool) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.spawn(work, args=(str(tmp_path), with_expert), nprocs=RANKS)
    one = objective()
    losses = losses_of(one, None, with_expert=with_expert)
    losses["loss"].backward()
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)]
    together = torch.stack([loss for loss, _ in parts]).mean()
    torch.testing.assert_close(together, losses["loss"].detach(), atol=1e-5, rtol=0)
    for name, parameter in one.named_parameters():
        found = [gradients[name] for _, gradients in parts]
        if parameter.grad is None:
            assert all(grad is None or not grad.any() for grad in found), name
            continue
        for grad in found:
            torch.testing.assert_close(grad, parameter.grad, atol=1e-5, rtol=1e-4)


def test_one_process_gathers_what_it_has() -> None:
    rows = torch.ones(2, 3)
    assert gather(rows) is rows
