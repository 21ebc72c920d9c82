"""Cost of an eCLIP training step relative to a CLIP step, and the share spent waiting for images.

``OMP_NUM_THREADS=1 python benchmarks/training.py [--steps 6] [--towers small lite0]``

Random images and reports through the real loader and objective: forward, backward, AdamW. The kinds
of step (plain, priming, expert) alternate, so that other load affects all; the cost of the paper's
curriculum is their mean weighted by frequency. Steps are in CPU time, waiting is in wall time.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from encoders.eclip.model import EclipConfig, EclipModel
from encoders.preprocess import EvalTransform
from encoders.training.augment import RankRng
from encoders.training.config import Curriculum, TrainSettings
from encoders.training.dataloader import BatchLoader, StepBatch
from encoders.training.objective import Objective
from encoders.training.tensors import ExpertTensors, TrainingTensors
from encoders.training.trainer import resolve_precision

IMAGES, SENTENCES = 512, 6
PRECISION = resolve_precision("auto")
KINDS = ("plain", "priming", "expert", "loading")


class Size(NamedTuple):
    """An image tower, its input, and a heatmap processor that fits."""

    tower: dict[str, Any]
    side: int
    batch: int
    processor: dict[str, Any]


SIZES = {
    "small": Size({"kind": "small_cnn", "channels": 16}, 64, 64, {"patch": 8, "width": 128}),
    "lite0": Size({"kind": "efficientnet_lite", "variant": "lite0"}, 224, 16, {}),
}


class Bench:
    """Takes training steps of any kind, at one size."""

    def __init__(self, size: Size) -> None:
        torch.manual_seed(0)
        self.settings = TrainSettings.model_validate(
            {
                "size": size.side,
                "optim": {"batch_size": size.batch, "epochs": 1000},
                "targets": {"kind": "equal"},
                "expert": {"processor": size.processor},
            }
        )
        generator = np.random.default_rng(0)
        side = size.side * 8 // 7
        images = generator.integers(0, 255, (IMAGES, side, side), dtype=np.uint8)
        text_inputs = {
            "sentences": torch.randn(IMAGES, SENTENCES, 384),
            "present": torch.ones(IMAGES, SENTENCES, dtype=torch.bool),
        }
        texts = nn.functional.normalize(torch.randn(IMAGES, 384), dim=1)
        rows = torch.arange(IMAGES)
        self.data = TrainingTensors(
            images, rows, text_inputs, texts, torch.zeros(IMAGES, 20), (), torch.ones(IMAGES).bool()
        )
        self.loader = BatchLoader(
            self.settings,
            data=self.data,
            experts=ExpertTensors(images[:200], images[200:400], rows[:200]),
            transform=EvalTransform(size=size.side),
            steps=1_000_000,
        )
        self.objective = Objective(
            EclipModel(EclipConfig(image_tower=size.tower)),
            self.settings,
            label_counts=torch.ones(20),
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.objective.parameters())

    def batches_of(self, step: int) -> dict[str, StepBatch]:
        """A plain, a priming and an expert step with the same images."""
        plain = replace(self.loader.make(step), priming=0.0, expert=None)
        expert = self.loader.expert_pairs(step, RankRng())
        return {
            "plain": plain,
            "priming": replace(plain, priming=0.1),
            "expert": replace(plain, expert=expert),
        }

    def train_step(self, batch: StepBatch) -> None:
        """Forward, backward, AdamW."""
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == "bf16"):
            loss = self.objective(batch.main, expert=batch.expert, priming=batch.priming)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def measure(size: Size, *, steps: int) -> dict[str, float]:
    """Median seconds of each kind of step, of loading, and of waiting for the next batch."""
    bench = Bench(size)
    seconds = defaultdict[str, list[float]](list)

    def timed(kind: str, work: Callable[[], Any], clock: Callable[[], float]) -> Any:
        started = clock()
        result = work()
        seconds[kind].append(clock() - started)
        return result

    for step in range(steps + 1):
        for kind, batch in bench.batches_of(step).items():
            timed(kind, partial(bench.train_step, batch), time.process_time)
        timed("loading", partial(bench.loader.make, step), time.process_time)
    for kind, batches in (
        ("prefetched", bench.loader.batches()),
        ("not prefetched", map(bench.loader.make, range(steps + 1))),
    ):
        for _ in range(steps + 1):
            batch = timed(f"waiting, {kind}", partial(next, batches), time.perf_counter)
            plain = replace(batch, priming=0.0, expert=None)
            timed(f"step, {kind}", partial(bench.train_step, plain), time.perf_counter)
    return {kind: statistics.median(values[1:]) for kind, values in seconds.items()}  # 1st: warm-up


def report(name: str, size: Size, cost: dict[str, float], *, steps: int) -> str:
    """Markdown table of one tower."""
    curriculum = Curriculum()
    expert = float(np.mean([curriculum.probability(step, steps=10_000) for step in range(10_000)]))
    eclip = (
        curriculum.cold * cost["priming"]
        + expert * cost["expert"]
        + (1 - curriculum.cold - expert) * cost["plain"]
    )
    rows = {f"{kind}, CPU ms": f"{1000 * cost[kind]:.0f}" for kind in KINDS}
    rows["eCLIP step / CLIP step over the curriculum"] = f"**{eclip / cost['plain']:.3f}**"
    for kind in ("not prefetched", "prefetched"):
        waiting = cost[f"waiting, {kind}"]
        share = waiting / (waiting + cost[f"step, {kind}"])
        rows[f"share of a step spent waiting for images, {kind}"] = f"**{share:.1%}**"
    head = (
        f"| {name}, {size.side} px, batch {size.batch}, {PRECISION}, "
        f"{torch.get_num_threads()} thread(s), median of {steps} | |"
    )
    return "\n".join([head, "|---|---:|", *(f"| {key} | {value} |" for key, value in rows.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6, help="of each kind")
    parser.add_argument("--towers", nargs="+", choices=SIZES, default=["small", "lite0"])
    options = parser.parse_args()
    for name in options.towers:
        cost = measure(SIZES[name], steps=options.steps)
        print(report(name, SIZES[name], cost, steps=options.steps), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
