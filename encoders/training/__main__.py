"""``python -m encoders.training --config configs/train/<name>.toml --out runs/<name>``."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from encoders.packaged_weights import EncoderError
from encoders.training.config import read_settings
from encoders.training.dataset import TrainingDataError
from encoders.training.sources.load import load_collection, source_of
from encoders.training.train import Progress, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or go on training; 0 when the model is written, 1 with a reason."""
    parser = argparse.ArgumentParser(prog="python -m encoders.training", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings, TOML")
    parser.add_argument("--out", type=Path, required=True, help="run folder; the same goes on")
    parser.add_argument("--data", type=Path, help="instead of the path in [data]; else Open-I")
    parser.add_argument("--experts", type=Path, help="NIH boxes, for settings without [data]")
    parser.add_argument("--cache", type=Path, help="decoded images; <out>/../cache if left out")
    parser.add_argument("--seed", type=int, help="instead of the one in the settings")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = read_settings(chosen.config)
        if chosen.seed is not None:
            settings = settings.model_copy(update={"seed": chosen.seed})
        cache = chosen.cache or chosen.out.parent / "cache"
        source = source_of(settings, data=chosen.data, experts=chosen.experts)
        folder = train(
            settings,
            collection=load_collection(source, cache=cache, experts=settings.expert is not None),
            out=chosen.out,
            cache=cache,
            on_step=_Reporter(),
        )
    except (TrainingDataError, EncoderError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"model written to {folder}\n")
    return 0


class _Reporter:
    """A line every half minute: step, loss, time left."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now < self._next and progress.step < progress.steps:
            return
        self._next = now + 30
        logging.getLogger("encoders.training").info(
            "step %d of %d, loss %.3f, %d min left",
            progress.step,
            progress.steps,
            progress.loss,
            round(progress.seconds_left / 60),
        )


if __name__ == "__main__":
    raise SystemExit(main())
