"""How fast images are encoded: what ships, eager PyTorch, a whole folder.

    python benchmarks/encode.py [--images 40] [--rounds 15] [--threads 2]

Every way is timed once in each round, in turn, so that whatever else the machine does falls on all
of them. A ratio is the median over rounds of the ratio within a round, with the 95 % interval of a
bootstrap over rounds. Images are phantoms of 1024 x 1024.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interval, phantoms

from encoders.eclip.encoder import load_encoder
from encoders.embed_files import embed_files
from encoders.images.image_io import read_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    threads = f"{chosen.threads} threads"
    eager, ships, together = "eager, 1 thread", "what ships, 1 thread", f"what ships, {threads}"
    read, prepare, folder = "read", "prepare", f"folder, {threads}"
    encoder = load_encoder()
    transform, shipped = encoder._transform, encoder._image_backend
    in_eager = load_encoder(backend="torch")._image_backend
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(chosen.threads) as pool:
        paths = [study.source for study in phantoms(Path(place), chosen.images)]
        images = [read_image(path) for path in paths]
        tensors = [transform(image).unsqueeze(0) for image in images]
        named, out = [(path.name, path) for path in paths], Path(place) / "v"
        runs: dict[str, Callable[[], Any]] = {
            read: each(read_image, paths),
            prepare: each(transform, images),
            eager: each(in_eager, tensors),
            ships: each(shipped, tensors),
            together: lambda: list(pool.map(shipped, tensors)),
            folder: lambda: embed_files(named, encoder=encoder, out=out, threads=chosen.threads),
        }
        taken = timed(runs, chosen.rounds)
        apart = max(
            1 - float((in_eager(one)[0] * shipped(one)[0]).sum())  # unit vectors
            for one in tensors
        )
    print(f"n = {len(paths)} images, {chosen.rounds} rounds\n\n| step | ms an image |\n|---|---|")
    medians = {name: 1000 * float(np.median(each)) / len(paths) for name, each in taken.items()}
    for name, found in medians.items():
        print(f"| {name} | {found:.2f} |")
    print(f"\nlargest cosine distance of what ships from eager: {max(apart, 0):.1e}")
    for base, name in ((eager, ships), (ships, folder), (together, folder)):
        ratio = interval(np.median, taken[base] / taken[name])
        print(f"{name} is {ratio} times as fast as {base}")
    share = medians[ships] / sum(medians[name] for name in (read, prepare, ships))
    print(f"where reading takes the same processors, a folder is at most {share:.2f} of a forward")


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[], Any]:
    return lambda: [work(item) for item in items]


def timed(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of every run in every round; the order is turned by one each round."""
    taken, names = {name: np.empty(rounds) for name in runs}, list(runs)
    for run in runs.values():
        run()  # warm
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = time.perf_counter()
            runs[name]()
            taken[name][number] = time.perf_counter() - started
    return taken


if __name__ == "__main__":
    main()
