"""Speed of image encoding: the shipped ONNX backend, eager PyTorch, and a whole folder.

    python benchmarks/encode.py [--images 40] [--rounds 15] [--threads 2]

Each round times everything once, so that other load affects all alike. Ratios are medians over
rounds with a 95 % bootstrap interval. Images are phantoms of 1024 x 1024.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import interval, phantoms

from encoders.eclip.encoder import load_encoder
from encoders.embed_files import embed_files
from encoders.image_io import read_image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    threads = f"{options.threads} threads"
    eager, onnx, onnx_threads = "eager, 1 thread", "ONNX, 1 thread", f"ONNX, {threads}"
    read, preprocess, folder = "read", "preprocess", f"folder, {threads}"
    encoder = load_encoder()
    transform, run_onnx = encoder._transform, encoder._image_backend
    run_eager = load_encoder(backend="torch")._image_backend
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.threads) as pool:
        paths = [study.source for study in phantoms(Path(temporary), options.images)]
        images = [read_image(path) for path in paths]
        tensors = [transform(image).unsqueeze(0) for image in images]
        named, out = [(path.name, path) for path in paths], Path(temporary) / "v"
        runs: dict[str, Callable[[], Any]] = {
            read: lambda: [read_image(path) for path in paths],
            preprocess: lambda: [transform(image) for image in images],
            eager: lambda: [run_eager(tensor) for tensor in tensors],
            onnx: lambda: [run_onnx(tensor) for tensor in tensors],
            onnx_threads: lambda: list(pool.map(run_onnx, tensors)),
            folder: lambda: embed_files(named, encoder=encoder, out=out, threads=options.threads),
        }
        seconds = time_rounds(runs, options.rounds)
        distance = max(
            1 - float((run_eager(tensor)[0] * run_onnx(tensor)[0]).sum())  # unit vectors
            for tensor in tensors
        )
    print(f"n = {len(paths)} images, {options.rounds} rounds\n\n| step | ms per image |\n|---|---|")
    medians = {name: 1000 * float(np.median(s)) / len(paths) for name, s in seconds.items()}
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} |")
    print(f"\nlargest cosine distance between ONNX and eager: {max(distance, 0):.1e}")
    for base, name in ((eager, onnx), (onnx, folder), (onnx_threads, folder)):
        ratio = interval(np.median, seconds[base] / seconds[name])
        print(f"{name} is {ratio} times as fast as {base}")
    share = medians[onnx] / sum(medians[name] for name in (read, preprocess, onnx))
    print(f"with reading on the same cores, a folder reaches at most {share:.2f} of ONNX alone")


def time_rounds(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of every run in every round; each round starts with the next run."""
    seconds, names = {name: np.empty(rounds) for name in runs}, list(runs)
    for run in runs.values():
        run()  # warm-up
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            runs[name]()
            seconds[name][i] = time.perf_counter() - started
    return seconds


if __name__ == "__main__":
    main()
