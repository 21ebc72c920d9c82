"""Small images, tables and studies for tests of training."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from typer.testing import CliRunner

from encoders.training.dataloader import Pairs
from encoders.training.dataset import Split, TrainingStudy
from rag.cli.main import app
from rag.errors import UsageError

CLEAR, LARGE = "The lungs are clear.", "The heart is enlarged."


def png(value: int = 90, side: int = 48) -> bytes:
    pixels = np.tile(np.linspace(0, 120, side), (side, 1)) + value
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text.strip() + "\n", encoding="utf-8")
    return path


def jsonl(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def one_study(*images: str, number: int = 1, **changes: Any) -> TrainingStudy:
    facts: dict[str, Any] = {"split": Split.TRAIN, "text": f"Report {number}."} | changes
    return TrainingStudy(
        study_id=f"s{number}",
        patient_id=f"p{number}",
        frontals=tuple(Path(image) for image in images),
        laterals=(),
        labels=frozenset(),
        **facts,
    )


def train_command(arguments: list[str]) -> tuple[int, str]:
    """Exit code and error of ``cxr-rag train``, without its progress."""
    result = CliRunner().invoke(app, ["train", *arguments])
    if isinstance(result.exception, UsageError):  # `rag.cli.main.main` exits with 2
        return 2, f"cxr-rag: {result.exception}"
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, "".join(
        line for line in result.stderr.splitlines(keepends=True) if line.startswith("cxr-rag")
    )


def random_pairs(count: int, seed: int) -> Pairs:
    """Images of 8 x 8, 3 prepared numbers, 5-d text vectors and 2 labels."""
    generator = torch.Generator().manual_seed(seed)
    texts = functional.normalize(torch.randn(count, 5, generator=generator), dim=1)
    rows = torch.randn(count, 3, generator=generator)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    labels = (torch.rand(count, 2, generator=generator) > 0.5).float()
    return Pairs(images, {"rows": rows}, texts, labels, torch.ones(count).bool())
