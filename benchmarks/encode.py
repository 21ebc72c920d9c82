"""How fast images are encoded: what ships, eager PyTorch, a whole folder.

    python benchmarks/encode.py [--images 40] [--rounds 15] [--threads 2]
    python benchmarks/encode.py --openi DATA/openi      # what ships against eager, image by image

Every way is timed once in each round, in turn, so that whatever else the machine does falls on all
of them. A ratio is the median over rounds of the ratio within a round, with the 95 % interval of a
bootstrap over rounds (seed 0). Images are phantoms of 1024 x 1024.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from demo.phantom import write_phantom_dicom
from encoders.eclip.encoder import EclipEncoder, in_torch, load_encoder
from encoders.embed_files import embed_files
from encoders.images.image_io import read_image
from encoders.training.dataset import clean
from encoders.training.sources.load import read_openi

EAGER, SHIPS = "eager float32", "what ships"
Seconds = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--openi", type=Path, default=None)
    chosen = parser.parse_args()
    if chosen.openi:
        print_agreement(chosen.openi, threads=chosen.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{seed}.dcm" for seed in range(chosen.images)]
        for seed, path in enumerate(paths):
            write_phantom_dicom(path, seed=seed, size=1024)
        print_speed(paths, rounds=chosen.rounds, threads=chosen.threads)


def print_speed(paths: Sequence[Path], *, rounds: int, threads: int) -> None:
    """One image at a time on one thread, then a folder on some."""
    encoder = load_encoder()
    transform = encoder._transform
    images = [transform(read_image(path)).unsqueeze(0) for path in paths]
    forwards = {EAGER: in_torch(encoder._model), SHIPS: encoder._image_side}
    print(f"n = {len(paths)} images, {rounds} rounds, one thread\n")
    torch.set_num_threads(1)
    taken = timed({name: each(run, images) for name, run in forwards.items()}, rounds)
    exact = [forwards[EAGER](image)[0] for image in images]
    print(
        "| way | ms an image | times as fast as eager (95 % interval) | largest cosine distance |"
    )
    print("|---|---|---|---|")
    for name, run in forwards.items():
        pairs = zip(images, exact, strict=True)
        distance = max(1 - float((run(image)[0] * vector).sum()) for image, vector in pairs)
        print(f"| {name} | {per_image(taken, name, paths)} | {ratio(taken, EAGER, name)} ", end="")
        print(f"| {max(distance, 0):.1e} |")
    print_folder(encoder, paths, images, rounds=rounds, threads=threads)


def print_folder(
    encoder: EclipEncoder,
    paths: Sequence[Path],
    tensors: Sequence[torch.Tensor],
    *,
    rounds: int,
    threads: int,
) -> None:
    """What `cxr-rag embed` does against the forward alone, which was handed prepared images."""
    forward, pool = encoder._image_side, ThreadPoolExecutor(threads)
    alone, together = "forward, 1 thread", f"forward, {threads} threads"
    read, prepare, folder = "read", "prepare", f"folder, {threads} threads"
    images = [read_image(path) for path in paths]
    with tempfile.TemporaryDirectory() as out:
        named = [(path.name, path) for path in paths]
        runs: dict[str, Callable[[], Any]] = {
            read: each(read_image, paths),
            prepare: each(encoder._transform, images),
            alone: each(forward, tensors),
            together: lambda: list(pool.map(forward, tensors)),
            folder: lambda: embed_files(
                named, encoder=encoder, out=Path(out) / "v", threads=threads
            ),
        }
        taken = timed(runs, rounds)
    print("\n| step | ms an image |\n|---|---|")
    for name in runs:
        print(f"| {name} | {per_image(taken, name, paths)} |")
    all_steps, forward_alone = (
        sum(statistics.median(taken[name]) for name in names)
        for names in ((read, prepare, alone), (alone,))
    )
    print(f"\n{folder}, against {alone}: {ratio(taken, alone, folder)}")
    print(f"{folder}, against {together}: {ratio(taken, together, folder)}")
    print(
        f"where reading takes the same processors, at most: {forward_alone / all_steps:.2f} "
        "(forward / (read + prepare + forward))"
    )


def print_agreement(openi: Path, *, threads: int) -> None:
    """Vectors of the val images both ways, and which train reports are their nearest five."""
    collection = clean(read_openi(openi))
    images = [(study.study_id, study.frontals[0]) for study in collection.val]
    texts = [study.text for study in collection.train]
    rows = {}
    for backend in ("torch", "auto"):
        encoder = load_encoder(backend=backend)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "v.npy"
            count, failed = embed_files(images, encoder=encoder, out=out, threads=threads)
            rows[backend] = np.load(out).astype(np.float64)
    reports = encoder.embed_texts(texts).astype(np.float64)
    eager, ships = rows["torch"], rows["auto"]
    distances = 1 - (eager * ships).sum(1) / np.linalg.norm(eager, axis=1) / np.linalg.norm(
        ships, axis=1
    )
    five = [
        np.argsort(-(images @ reports.T), axis=1, kind="stable")[:, :5] for images in (eager, ships)
    ]
    print(f"{count} val images, {failed} unreadable, {len(texts)} train reports")
    print(f"cosine distance: largest {distances.max():.1e}, median {np.median(distances):.1e}")
    print(f"images whose nearest five differ: {(five[0] != five[1]).any(1).sum()}", end=" ")
    different = [set(a) != set(b) for a, b in zip(*five, strict=True)]
    print(f"(in members, not in order alone: {sum(different)})")


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[], Any]:
    return lambda: [work(item) for item in items]


def timed(runs: dict[str, Callable[[], Any]], rounds: int) -> Seconds:
    """Seconds of every run in every round; the order is turned by one each round."""
    taken: Seconds = {name: [] for name in runs}
    names = list(runs)
    for run in runs.values():
        run()  # warm
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            started = time.perf_counter()
            runs[name]()
            taken[name].append(time.perf_counter() - started)
    return taken


def per_image(taken: Seconds, name: str, paths: Sequence[Path]) -> str:
    return f"{1000 * statistics.median(taken[name]) / len(paths):.2f}"


def ratio(taken: Seconds, base: str, name: str) -> str:
    """How many times as fast as the base."""
    pairs = np.array(taken[base]) / np.array(taken[name])
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(pairs, (2000, len(pairs))), axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{np.median(pairs):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
