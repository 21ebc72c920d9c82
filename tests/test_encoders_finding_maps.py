"""Finding maps in PyTorch and ONNX Runtime, and the regions read from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.published_models import made_up_image
from torch.nn import functional

from encoders.eclip.encoder import load_encoder
from encoders.eclip.finding_maps import locate
from encoders.eclip.model import EclipConfig, EclipModel, load_pretrained, save_pretrained
from encoders.eclip.onnx_export import write_graph
from encoders.packaged_weights import EncoderError
from encoders.preprocess import EvalTransform
from encoders.towers.efficientnet_lite import EfficientNetLite, depthwise_conv2d

FINDINGS = ("Effusion", "Nodule")


def model_with_maps(*, size: int = 64) -> EclipModel:
    torch.manual_seed(0)
    text = {"kind": "sentence_set", "hidden": 16}
    config = EclipConfig(dim=16, text_tower=text, findings=FINDINGS, map_grid=-(-size // 16))
    model = EclipModel(config).eval()
    assert model.finding_maps is not None
    torch.nn.init.normal_(model.finding_maps.place)
    return model


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("side", [8, 11])
def test_the_fast_depthwise_convolution_has_torchs_gradients(
    kernel: int, stride: int, side: int
) -> None:
    torch.manual_seed(0)
    padding = kernel // 2 if stride == 1 else 0
    images = torch.randn(2, 6, side, side, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    expected = functional.conv2d(images, weight, None, stride, padding, groups=6)
    out = depthwise_conv2d(images, weight, stride=stride, padding=padding)
    assert torch.equal(out, expected)
    seen = torch.randn_like(out)
    for one, other in zip(
        torch.autograd.grad(out, (images, weight), seen),
        torch.autograd.grad(expected, (images, weight), seen),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_the_grids_have_strides_16_and_32() -> None:
    tower = EfficientNetLite().eval()
    pixels = torch.rand(1, 3, 96, 96)
    mid, deep = tower.grids(pixels)
    assert mid.shape == (1, tower.mid_width, 6, 6)
    assert deep.shape == (1, tower.width, 3, 3)
    assert torch.equal(deep.mean((-2, -1)), tower(pixels))


def test_saved_maps_are_the_same_in_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason='onnx is not installed: pip install "cxr-rag[export]"')
    save_pretrained(tmp_path, model=model_with_maps(), transform=EvalTransform(size=64))
    write_graph(tmp_path)
    fast, eager = load_encoder(tmp_path), load_encoder(tmp_path, backend="torch")
    assert fast.findings == FINDINGS
    one, other = (
        encoder.outputs(made_up_image(90, 70, seed=0)).maps[0] for encoder in (fast, eager)
    )
    assert one.shape == (2, 4, 4)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_model_without_maps_refuses_to_make_them() -> None:
    model = EclipModel(EclipConfig(dim=16, text_tower={"kind": "sentence_set", "hidden": 16}))
    with pytest.raises(EncoderError, match="no finding maps"):
        model.features_and_maps(torch.rand(1, 3, 64, 64))


def test_maps_do_not_change_the_features(tmp_path: Path) -> None:
    save_pretrained(tmp_path, model=model_with_maps(), transform=EvalTransform(size=64))
    model, _ = load_pretrained(tmp_path)
    pixels = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.features_and_maps(pixels)[0], model.image_features(pixels))


def test_a_region_is_the_connected_area_around_the_peak() -> None:
    logits = np.full((14, 14), -6.0, np.float32)
    logits[3:6, 9:12] = 2.0
    logits[4, 10] = 5.0
    logits[11:13, 1:3] = -1.0  # not connected to the first area
    region = locate(logits)
    assert region.peak == pytest.approx((10.5 / 14, 4.5 / 14), abs=0.03)
    left, top, width, height = region.box
    assert left == pytest.approx(9 / 14, abs=0.05)
    assert top == pytest.approx(3 / 14, abs=0.05)
    assert width == pytest.approx(3 / 14, abs=0.07)
    assert height == pytest.approx(3 / 14, abs=0.07)


@pytest.mark.parametrize("value", [-40.0, 0.0, 40.0])
def test_a_flat_map_has_a_region_too(value: float) -> None:
    region = locate(np.full((14, 14), value, np.float32))
    assert all(0 <= part <= 1 for part in (*region.peak, *region.box))
