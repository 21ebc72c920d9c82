"""Images are encoded by ONNX Runtime as by PyTorch, or by PyTorch with a logged reason."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.published_models import made_up_image

from encoders.eclip.encoder import EclipEncoder, load_encoder
from encoders.eclip.model import GRAPH, WEIGHTS, EclipConfig, EclipModel, save_pretrained
from encoders.eclip.onnx_export import main, write_graph
from encoders.packaged_weights import SHIPPED_ENCODER, EncoderError
from encoders.preprocess import EvalTransform

pytestmark = pytest.mark.slow

IMAGES = [
    made_up_image(90, 70, seed=0),
    made_up_image(300, 180, seed=1),
    made_up_image(224, 224, seed=2),
]


LITE0, LITE2 = SHIPPED_ENCODER / "lite0", SHIPPED_ENCODER / "lite2"


def runs_in_torch(encoder: EclipEncoder) -> bool:
    return encoder._image_backend.__qualname__.startswith("torch_backend")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LITE0, tmp_path / "model"))


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="encoders.eclip.encoder")
    return caplog


@pytest.mark.parametrize("folder", [LITE0, LITE2])
def test_the_shipped_graphs_run_and_agree_with_torch(folder: Path) -> None:
    eager, shipped = load_encoder(folder, backend="torch"), load_encoder(folder)
    assert runs_in_torch(eager)
    assert not runs_in_torch(shipped), "the shipped graph does not fit the shipped weights"
    assert shipped.encoder_id == eager.encoder_id
    for chest in IMAGES:
        for one, other in zip(eager.outputs(chest), shipped.outputs(chest), strict=True):
            assert one.shape == other.shape
            assert other.dtype == np.float32
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_the_same_image_gives_the_same_bits_from_many_threads() -> None:
    encoder = load_encoder()
    alone = encoder.embed_images(IMAGES).tobytes()
    with ThreadPoolExecutor(4) as pool:
        many = list(pool.map(lambda _: encoder.embed_images(IMAGES).tobytes(), range(12)))
    assert set(many) == {alone}
    assert load_encoder().embed_images(IMAGES).tobytes() == alone


def test_exporting_again_gives_the_shipped_graph(copy: Path) -> None:
    pytest.importorskip("onnx", reason='onnx is not installed: pip install "cxr-rag[export]"')
    (copy / GRAPH).unlink()
    main([str(copy)])
    assert (copy / GRAPH).read_bytes() == (LITE0 / GRAPH).read_bytes()


@pytest.mark.parametrize("size", [64, 97])
def test_a_trained_model_can_be_exported(tmp_path: Path, size: int) -> None:
    pytest.importorskip("onnx", reason='onnx is not installed: pip install "cxr-rag[export]"')
    torch.manual_seed(0)
    tower = {"kind": "efficientnet_lite"}
    text = {"kind": "sentence_set", "hidden": 16}
    model = EclipModel(EclipConfig(dim=16, image_tower=tower, text_tower=text)).eval()
    save_pretrained(tmp_path, model=model, transform=EvalTransform(size=size))
    assert runs_in_torch(load_encoder(tmp_path))
    write_graph(tmp_path)
    fast = load_encoder(tmp_path)
    assert not runs_in_torch(fast)
    expected = load_encoder(tmp_path, backend="torch").embed_images(IMAGES)
    np.testing.assert_allclose(fast.embed_images(IMAGES), expected, rtol=0, atol=1e-5)

    save_pretrained(tmp_path, model=model, transform=EvalTransform(size=size))
    assert not (tmp_path / GRAPH).exists(), "a graph of earlier weights"


def test_half_precision_weights_cannot_be_exported(copy: Path) -> None:
    pytest.importorskip("onnx", reason='onnx is not installed: pip install "cxr-rag[export]"')
    weights = {name: tensor.half() for name, tensor in load_file(copy / WEIGHTS).items()}
    save_file(weights, copy / WEIGHTS)
    with pytest.raises(EncoderError, match="is not float32"):
        write_graph(copy)


def test_other_towers_cannot_be_exported(tmp_path: Path) -> None:
    config = EclipConfig(
        dim=16,
        image_tower={"kind": "small_cnn"},
        text_tower={"kind": "sentence_set", "hidden": 16},
    )
    save_pretrained(tmp_path, model=EclipModel(config).eval(), transform=EvalTransform(size=64))
    with pytest.raises(EncoderError, match="small_cnn"):
        write_graph(tmp_path)


def test_without_a_graph_torch_runs_and_the_log_says_so(
    copy: Path, warned: pytest.LogCaptureFixture
) -> None:
    (copy / GRAPH).unlink()
    assert runs_in_torch(load_encoder(copy))
    assert GRAPH in warned.text


@pytest.mark.parametrize("damage", [b"", b"no graph", b"\x08\x08" * 300])
def test_a_damaged_graph_falls_back_to_torch(
    copy: Path, warned: pytest.LogCaptureFixture, damage: bytes
) -> None:
    (copy / GRAPH).write_bytes(damage)
    encoder = load_encoder(copy)
    assert runs_in_torch(encoder)
    assert "cannot run" in warned.text
    expected = load_encoder(LITE0, backend="torch").embed_images(IMAGES)
    assert encoder.embed_images(IMAGES).tobytes() == expected.tobytes()


def test_a_graph_that_does_not_match_the_weights_falls_back_to_torch(
    copy: Path, warned: pytest.LogCaptureFixture
) -> None:
    """The graph refers to weights by their offset in the file; here one offset is wrong."""
    graph = (copy / GRAPH).read_bytes()
    place = graph.index(b"offset", graph.index(b"image_projection.weight")) + 10
    digits = graph[place : place + 6]
    assert digits.isdigit()
    moved = bytes([digits[0] + (-1 if digits[0] > ord("1") else 1)]) + digits[1:]
    (copy / GRAPH).write_bytes(graph[:place] + moved + graph[place + 6 :])
    assert runs_in_torch(load_encoder(copy))
    assert "does not match the weights" in warned.text or "cannot run" in warned.text


def test_without_onnx_runtime_torch_runs(
    monkeypatch: pytest.MonkeyPatch, warned: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert runs_in_torch(load_encoder(LITE0))
    assert "onnxruntime" in warned.text


@pytest.mark.parametrize("folder", [LITE0, LITE2])
def test_graphs_refer_to_the_weights_file(folder: Path) -> None:
    assert (folder / GRAPH).stat().st_size < 100_000
    assert WEIGHTS.encode() in (folder / GRAPH).read_bytes()
