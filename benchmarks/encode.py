"""How fast films are encoded: the bare forward of the image tower, other ways to run it, a folder.

    pip install onnx openvino        # what is absent is named and left out
    python benchmarks/encode.py [--films 24] [--rounds 15] [--threads 1] [--folder FILMS]

Every way is timed once in each round, in turn, so that whatever else the machine does falls on all
of them; a ratio is the median over rounds, with the 10th and 90th percentile. Films are phantoms
unless ``--folder`` names others.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.base import CxrImage
from encoders.eclip import EclipEncoder, load_encoder
from encoders.eclip.model import EclipModel
from encoders.image_io import read_image
from encoders.phantom import write_phantom_dicom

Forward = Callable[[Tensor], Tensor]


class Tower(torch.nn.Module):
    """A film to its vector, as exporters want it."""

    def __init__(self, model: EclipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:  # noqa: D102 - the class says it
        return self.model.encode_image(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    encoder = load_encoder()
    with tempfile.TemporaryDirectory() as folder:
        if chosen.folder:
            paths = sorted(p for p in chosen.folder.rglob("*") if p.is_file())[: chosen.films]
        else:
            paths = [Path(folder) / f"{seed}.dcm" for seed in range(chosen.films)]
            for seed, path in enumerate(paths):
                write_phantom_dicom(path, seed=seed, size=1024)
        measure(encoder, paths, rounds=chosen.rounds, threads=chosen.threads)


def measure(encoder: EclipEncoder, paths: Sequence[Path], *, rounds: int, threads: int) -> None:
    model, transform = encoder._model, encoder._transform  # the bare tower
    films = [transform(read_image(path)).unsqueeze(0) for path in paths]
    ways = {"eager float32 (ships)": eager(model), **other_ways(model, films[0], threads=threads)}
    runs: dict[str, Callable[[], Any]] = {
        name: lambda forward=forward: [forward(film) for film in films]
        for name, forward in ways.items()
    }
    runs["folder: read, prepare, encode"] = lambda: encode_folder(encoder, paths)
    exact = torch.cat(runs["eager float32 (ships)"]())
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - started) / len(paths))
    print(f"n = {len(paths)} films, {rounds} rounds, {threads} thread(s)\n")
    print("| way | ms a film | times as fast as eager, median (p10 to p90) | lowest cosine |")
    print("|---|---|---|---|")
    for name, taken in seconds.items():
        ratios = [
            base / own for base, own in zip(seconds["eager float32 (ships)"], taken, strict=True)
        ]
        tenths = statistics.quantiles(ratios, n=10)
        cosine = "-"
        if name in ways:
            cosine = f"{float((torch.cat(runs[name]()) * exact).sum(1).min()):.4f}"
        print(
            f"| {name} | {1000 * statistics.median(taken):.1f} | {statistics.median(ratios):.2f} "
            f"({tenths[0]:.2f} to {tenths[-1]:.2f}) | {cosine} |"
        )


def encode_folder(encoder: EclipEncoder, paths: Sequence[Path]) -> int:
    """As a batch does: one thread reads the next film while another encodes."""

    def read(path: Path) -> CxrImage:
        return read_image(path)

    with ThreadPoolExecutor(2) as readers:
        return sum(len(encoder.embed_images([film])) for film in readers.map(read, paths))


def eager(model: EclipModel) -> Forward:
    @torch.inference_mode()
    def forward(pixels: Tensor) -> Tensor:
        return model.encode_image(pixels)

    return forward


def other_ways(model: EclipModel, film: Tensor, *, threads: int) -> dict[str, Forward]:
    """bfloat16, ONNX Runtime, OpenVINO; what is not installed is said."""
    ways: dict[str, Forward] = {}

    @torch.inference_mode()
    def bfloat16(pixels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model.encode_image(pixels).float()

    ways["eager bfloat16"] = bfloat16
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tower.onnx"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporter is old, and says so
                torch.onnx.export(
                    Tower(model).eval(), (film,), path, dynamo=False, opset_version=17
                )
        except Exception as error:  # noqa: BLE001 - `onnx` missing has a class of torch's own
            print(f"left out: ONNX Runtime and OpenVINO ({error})")
            return ways
        ways["ONNX Runtime float32"] = onnx_runtime(path, threads=threads)
        try:
            import openvino  # noqa: PLC0415 - may be missing
        except ModuleNotFoundError as error:
            print(f"left out: OpenVINO ({error})")
            return ways
        for precision in ("f32", "bf16"):
            compiled = openvino.Core().compile_model(
                path,
                "CPU",
                {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision},
            )
            ways[f"OpenVINO {precision}"] = lambda pixels, compiled=compiled: torch.from_numpy(
                compiled(pixels.numpy())[0].copy()
            )
    return ways


def onnx_runtime(path: Path, *, threads: int) -> Forward:
    import onnxruntime  # noqa: PLC0415 - heavy

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixels: torch.from_numpy(session.run(None, {name: pixels.numpy()})[0])


if __name__ == "__main__":
    main()
