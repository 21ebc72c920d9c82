"""Whole training runs: they learn, resume bit for bit, and explain errors."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.made_up_training import train_command
from torch import nn

from encoders.eclip.encoder import load_encoder
from encoders.image_io import read_image
from encoders.training.config import TrainSettings, read_settings
from encoders.training.dataset import TrainingDataError, build_dataset
from encoders.training.sources.load import read_openi
from encoders.training.train import init_model, train
from encoders.training.trainer import exponential_average, resolve_precision

SETTINGS = """
name = "tiny"
size = 32
cache_side = 40
min_label_count = 2
checkpoint_every = 2
[model]
dim = 16
text_tower = {{ kind = "sentence_set", hidden = 32 }}
image_tower = {{ kind = "small_cnn", channels = 8 }}
dropout = 0.0
[augment]
smallest_crop = 0.9
[optim]
epochs = {epochs}
batch_size = 8
lr = 2e-3
ema = 0.5
"""
CLEAR = ("The lungs are clear.", "Heart size is normal.", "No effusion is seen.")
LARGE = ("The heart is enlarged.", "There is cardiomegaly.", "Heart size is increased.")


@pytest.fixture(scope="module")
def openi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up studies in the layout of Open-I: a large heart is a large bright disc."""
    folder = tmp_path_factory.mktemp("openi")
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[0:48, 0:48]
    lines = []
    for number in range(28):
        large = number % 2 == 1
        radius = (14 if large else 6) + generator.integers(-1, 2)
        disc = (rows - 28) ** 2 + (columns - 26) ** 2 < radius**2
        pixels = 60 + 120 * disc + generator.normal(0, 8, (48, 48))
        name = f"images/{number}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        sentences = generator.permutation(LARGE if large else CLEAR)[:2]
        labels = ["Cardiomegaly"] if large else ["normal"]
        lines.append(
            {
                "id": f"CXR{number}",
                "frontal": [name],
                "lateral": [],
                "findings": " ".join([*sentences, f"Image number {number}."]),
                "impression": "",
                "labels": {"problems": labels, "mesh_major": labels},
                "split": "val" if number >= 20 else "train",
            }
        )
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "studies.jsonl").write_text(text + "\n")
    return folder


def command(openi: Path, folder: Path, *, epochs: int, extra: str = "") -> list[str]:
    config = folder.parent / f"{folder.name}.toml"
    config.write_text(extra + SETTINGS.format(epochs=epochs))
    return ["--config", str(config), "--out", str(folder), "--data", str(openi)]


def metrics(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open() as stream:
        return [float(row["value"]) for row in csv.DictReader(stream) if row["name"] == name]


@pytest.mark.slow
def test_training_learns_to_tell_large_from_normal_hearts(openi: Path, tmp_path: Path) -> None:
    assert train_command(command(openi, tmp_path / "run", epochs=30)) == (0, "")
    losses = metrics(tmp_path / "run", "contrast")
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    encoder = load_encoder(tmp_path / "run" / "model")
    images = [read_image(openi / "images" / f"{number}.png") for number in range(20, 28)]
    similarity = encoder.embed_images(images) @ encoder.embed_texts([CLEAR[0], LARGE[0]]).T
    large = similarity[:, 1] - similarity[:, 0]
    assert large[1::2].min() > large[0::2].max()


@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_same_bits(openi: Path, tmp_path: Path) -> None:
    extra = "num_workers = 2\n"
    config = Path(command(openi, tmp_path / "run", epochs=6, extra=extra)[1])
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"

    def run(out: Path, *, steps: int = 99) -> None:
        def stop(step: int, *_: object) -> None:
            if step == steps:
                raise KeyboardInterrupt

        dataset = build_dataset(read_openi(openi))
        train(read_settings(config), dataset=dataset, out=out, cache=tmp_path, on_step=stop)

    run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(interrupted, steps=7)  # one step after the last checkpoint
    assert not (interrupted / "model").exists()
    run(interrupted)
    for name in ("model/model.safetensors", "metrics.csv"):
        assert (whole / name).read_bytes() == (interrupted / name).read_bytes()
    facts = json.loads((interrupted / "run.json").read_text())
    assert facts["studies"] == 20
    assert {"settings", "git", "packages", "fingerprint", "left_out"} <= facts.keys()

    config.write_text(config.read_text().replace("epochs = 6", "epochs = 7"))
    with pytest.raises(TrainingDataError, match=r"other settings .* in .*run\.json"):
        run(interrupted)
    assert json.loads((interrupted / "run.json").read_text()) == facts


@pytest.mark.slow
def test_continued_training_takes_the_runs_name_and_keeps_the_architecture(
    openi: Path, tmp_path: Path
) -> None:
    assert train_command(command(openi, tmp_path / "first", epochs=1)) == (0, "")
    extra = f'[model]\nstart_from = "{tmp_path / "first" / "model"}"\n'

    def start_from(**changes: str) -> TrainSettings:
        text = SETTINGS.format(epochs=1).replace("[model]\n", extra)
        for old, new in changes.items():
            text = text.replace(old, new)
        config = tmp_path / "next.toml"
        config.write_text(text)
        return read_settings(config)

    model, _ = init_model(start_from(tiny="second"))
    assert model.config.name == "second"
    for changes, message in (
        ({"dim = 16": "dim = 32"}, r"model\.dim is 32, but 16 in .*first"),
        ({"channels = 8": "channels = 4"}, r"model\.image_tower is .* 4.* 8"),
        ({"\nsize = 32": "\nsize = 64"}, r"^size is 64, but 32 in .* leave the setting out"),
    ):
        with pytest.raises(TrainingDataError, match=message):
            init_model(start_from(**changes))


@pytest.mark.slow
def test_a_run_that_is_killed_can_be_resumed(openi: Path, tmp_path: Path) -> None:
    interrupted = tmp_path / "interrupted"
    program = [
        sys.executable,
        "-m",
        "rag.cli.main",
        "train",
        *command(openi, interrupted, epochs=12),
    ]
    process = subprocess.Popen(program, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 300
    while not (interrupted / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert train_command(command(openi, interrupted, epochs=12)) == (0, "")
    assert len(metrics(interrupted, "loss")) == 24


def test_pretraining_without_labelled_images_is_refused() -> None:
    with pytest.raises(ValueError, match="labelled"):
        TrainSettings.model_validate({"pretrain": {}})


@pytest.mark.parametrize(("native", "used"), [(True, "bf16"), (False, "no")])
def test_bf16_is_used_if_the_hardware_supports_it(
    monkeypatch: pytest.MonkeyPatch, *, native: bool, used: str
) -> None:
    monkeypatch.setattr("encoders.training.trainer.supports_bfloat16", lambda **_: native)
    assert resolve_precision(TrainSettings().optim.precision) == used
    assert resolve_precision("bf16") == "bf16"


@pytest.mark.parametrize("missing", ["config", "data"])
def test_a_wrong_path_gives_a_one_line_error(openi: Path, tmp_path: Path, missing: str) -> None:
    arguments = command(openi, tmp_path / "run", epochs=1)
    arguments[arguments.index(f"--{missing}") + 1] = str(tmp_path / "nowhere")
    code, error = train_command(arguments)
    assert code == {"config": 2, "data": 3}[missing]
    assert "nowhere" in error


def test_the_moving_average_includes_batch_statistics() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = exponential_average(model, decay=0.75)
    average.update_parameters(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for value in model.state_dict().values():
        value.add_(1)
    for _ in range(30):  # its decay grows at first
        average.n_averaged += 1
    average.update_parameters(model)
    for name, value in average.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, before[name] + 0.25)
        else:
            assert value == before[name] + 1
