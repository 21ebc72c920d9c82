"""Training in two processes equals training in one: loss, gradient, whole run."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.made_up_training import random_pairs
from torch import Tensor, nn
from torch import distributed as dist
from torch import multiprocessing as mp

from encoders.annotations import Boxes
from encoders.eclip.model import EclipConfig, EclipModel
from encoders.training.config import TrainSettings
from encoders.training.dataloader import ExpertPairs, Pairs
from encoders.training.dataset import Dataset, ExpertImage, Split, TrainingStudy
from encoders.training.objective import Objective, gather
from encoders.training.train import train

RANKS = 2


class _Texts(nn.Module):
    """Fake: one linear layer on the prepared numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 3
        self.linear = nn.Linear(3, 3)

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        return self.linear(prepared["rows"])


class _Images(nn.Module):
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
    model.image_tower, model.text_tower = _Images(), _Texts()
    model.image_projection = nn.Linear(4, 4, bias=False)
    model.text_projection = nn.Linear(3, 4, bias=False)
    processor = {"patch": 4, "width": 8, "heads": 2}
    settings = TrainSettings.model_validate({"expert": {"processor": processor}})
    return Objective(model, settings, label_counts=torch.ones(2)).train()


def part(whole: Pairs, rank: int) -> Pairs:
    return Pairs(
        whole.pixels[rank::RANKS],
        {"rows": whole.prepared["rows"][rank::RANKS]},
        whole.texts[rank::RANKS],
        whole.labels[rank::RANKS],
        whole.complete[rank::RANKS],
    )


def losses_of(module: nn.Module, rank: int | None, *, with_expert: bool) -> dict[str, Tensor]:
    main, extra = random_pairs(8, 1), random_pairs(4, 2)
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
    learner = nn.parallel.DistributedDataParallel(objective(), find_unused_parameters=True)
    losses = losses_of(learner, rank, with_expert=with_expert)
    losses["loss"].backward()
    gradients = {name: p.grad for name, p in learner.module.named_parameters()}
    torch.save((losses["loss"].detach(), gradients), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("with_expert", [True, False], ids=["expert step", "priming step"])
@pytest.mark.filterwarnings("ignore:find_unused_parameters:UserWarning")
def test_two_processes_give_the_loss_and_gradient_of_one(tmp_path: Path, with_expert: bool) -> None:
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


WHOLE_RUN: dict[str, Any] = {
    "size": 32,
    "cache_side": 40,
    "min_label_count": 2,
    "model": {
        "dim": 8,
        "dropout": 0.0,
        "image_tower": {  # no batch statistics, which ranks do not share, and no dropout
            "kind": "hugging_face",
            "config": {
                "model_type": "vit",
                "image_size": 32,
                "patch_size": 8,
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "initializer_range": 0.3,
            },
        },
        "text_tower": {
            "kind": "sentence_set",
            "hidden": 16,
            "dropout": 0.0,
            "sentence_dropout": 0.0,
        },
    },
    "optim": {"epochs": 4, "batch_size": 8, "precision": "no", "lr": 1e-4},
    "expert": {
        "processor": {"patch": 8, "width": 16, "heads": 2},
        "curriculum": {"cold": 0.25, "first": 0.5, "peak": 1, "last": 1},
    },
}


FINDINGS = ("Cardiomegaly", "Small effusion", "Normal heart", "Clear lungs", "Scoliosis")
PLACES = ("on the left.", "at the base.", "since the fall.", "beside a stent.")
TEXTS = [f"{finding} {place}" for finding in FINDINGS for place in PLACES]


def dataset(folder: Path) -> Dataset:
    """Made-up studies, six of them with a box."""
    generator = np.random.default_rng(0)
    studies = []
    for number in range(20):
        image = folder / f"{number}.png"
        if not image.exists():
            coarse = generator.integers(0, 255, (4, 4)).repeat(12, 0).repeat(12, 1)
            Image.fromarray(coarse.astype(np.uint8)).save(image)
        studies.append(
            TrainingStudy(
                study_id=f"s{number}",
                patient_id=f"p{number}",
                frontals=(image,),
                laterals=(),
                text=TEXTS[number],
                labels=frozenset({"Cardiomegaly"} if number % 2 else {"normal"}),
                split=Split.TRAIN if number < 16 else Split.VAL,
            )
        )
    boxes = Boxes(((0.2, 0.3, 0.4, 0.3),))
    experts = tuple(ExpertImage(study.study_id, study.frontals[0], boxes) for study in studies[:6])
    return Dataset(tuple(studies[:16]), tuple(studies[16:]), {}, experts=experts)


def whole_run(rank: int, ranks: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    root = Path(folder)
    if ranks > 1:  # as torchrun and accelerate launch set them
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "ACCELERATE_USE_CPU": "true",
        }
    losses: list[float] = []
    train(
        TrainSettings.model_validate(WHOLE_RUN),
        dataset=dataset(root),
        out=root / f"run-{ranks}",
        cache=root / f"cache-{ranks}-{rank}",
        on_step=lambda _step, _steps, loss: losses.append(loss),
    )
    (root / f"losses-{ranks}-{rank}.json").write_text(json.dumps(losses))
    if ranks > 1:
        dist.destroy_process_group()


@pytest.mark.slow
def test_a_run_of_two_processes_has_the_losses_of_one(tmp_path: Path) -> None:
    """With priming and expert steps."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dataset(tmp_path)  # writes the images before two processes use them
    for ranks in (1, RANKS):
        mp.spawn(whole_run, args=(ranks, port, str(tmp_path)), nprocs=ranks)
    one, *two = (
        json.loads((tmp_path / f"losses-{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")
    )
    assert len(one) == 8
    assert two[0] == two[1]
    np.testing.assert_allclose(two[0], one, atol=1e-5, rtol=0)
    kept = [(tmp_path / f"run-{ranks}" / "metrics.csv").read_text() for ranks in (1, RANKS)]
    names = [{line.split(",")[1] for line in text.splitlines()[1:]} for text in kept]
    assert names[0] == names[1]
    assert "priming" in names[0]
    assert (tmp_path / "run-2" / "model" / "model.safetensors").exists()


def test_gather_in_one_process_returns_its_rows() -> None:
    rows = torch.ones(2, 3)
    assert gather(rows) is rows
