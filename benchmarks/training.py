"""What an eCLIP step costs beside a CLIP step, and how much of a step is data loading.

``python benchmarks/training.py [--steps 12]``

Made-up films, the towers of configs/train/arms.toml. The three kinds of step (plain, priming,
expert) take turns in one run, so that a busy machine slows all of them; the cost of the paper's
curriculum is their mean weighted by how often each comes.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from encoders.eclip.heatmap import HeatmapProcessor
from encoders.eclip.model import EclipConfig, EclipModel
from encoders.preprocess import EvalTransform
from encoders.training.augment import augment
from encoders.training.config import AugmentSettings, OptimSettings, TargetSettings
from encoders.training.curriculum import Curriculum, mean_probability
from encoders.training.objective import ExpertPairs, Objective, Pairs

SIDE, BATCH = 64, 64

T = TypeVar("T")


def pairs(films: np.ndarray, rows: np.ndarray, transform: EvalTransform) -> Pairs:
    grey = torch.from_numpy(films[rows]).float() / 255
    seen = augment(transform.stretch(grey), AugmentSettings(), size=SIDE)
    pixels = transform.normalise(seen).contiguous(memory_format=torch.channels_last)
    count = len(rows)
    prepared = {
        "sentences": torch.randn(count, 6, 384),
        "present": torch.ones(count, 6, dtype=torch.bool),
    }
    texts = nn.functional.normalize(torch.randn(count, 384), dim=1)
    return Pairs(pixels, prepared, texts, torch.zeros(count, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12, help="of each kind")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    films = np.random.default_rng(0).integers(0, 255, (1024, 80, 80), dtype=np.uint8)
    transform = EvalTransform(size=SIDE)
    tower = {"kind": "small_cnn", "channels": 16}
    model = EclipModel(EclipConfig(dim=128, image_tower=tower))
    objective = Objective(
        model,
        label_weights=torch.ones(1),
        targets=TargetSettings(kind="equal"),
        optim=OptimSettings(agreement_weight=0, label_weight=0),
        processor=HeatmapProcessor(patch=8, width=128),
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(objective.parameters())
    generator = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {"loading": [], "plain": [], "priming": [], "expert": []}

    def timed(kind: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        result = work()
        seconds[kind].append(time.perf_counter() - began)
        return result

    def load(count: int) -> Pairs:
        return pairs(films, generator.integers(0, len(films), count), transform)

    def learn(main_pairs: Pairs, expert: ExpertPairs | None, priming: float) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(main_pairs, expert=expert, priming=priming)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(chosen.steps + 1):
        main_pairs = timed("loading", lambda: load(BATCH))
        timed("plain", lambda batch=main_pairs: learn(batch, None, 0.0))
        timed("priming", lambda batch=main_pairs: learn(batch, None, 0.1))

        def expert_step(batch: Pairs = main_pairs) -> None:
            extra = load(BATCH // 2)
            learn(batch, ExpertPairs(extra, torch.rand(BATCH // 2, SIDE, SIDE), 0.3), 0.0)

        timed("expert", expert_step)

    cost = {kind: statistics.median(values[1:]) for kind, values in seconds.items()}  # 1st warms up
    schedule = Curriculum()
    chance = mean_probability(schedule)
    average = (
        schedule.cold * cost["priming"]
        + chance * cost["expert"]
        + (1 - schedule.cold - chance) * cost["plain"]
    )
    clip, eclip = cost["loading"] + cost["plain"], cost["loading"] + average
    print(f"median of {chosen.steps} steps of each kind, batch {BATCH}, {SIDE} px, bf16")
    for kind, value in cost.items():
        print(f"{kind:8} {1000 * value:8.1f} ms")
    print(f"eCLIP step / CLIP step over the curriculum: {eclip / clip:.3f} (lower is better)")
    print(f"reading and augmenting: {100 * cost['loading'] / clip:.1f} % of a CLIP step")


if __name__ == "__main__":
    main()
