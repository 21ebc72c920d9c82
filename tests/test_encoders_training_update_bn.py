"""Statistics that were spoilt by strange images are those of plain images again."""

import numpy as np
import torch

from encoders.eclip.model import EclipConfig, EclipModel
from encoders.preprocess import EvalTransform
from encoders.training.training_set import TrainingSet
from encoders.training.update_bn import update_bn


def test_spoilt_statistics_come_back_and_no_weight_changes() -> None:
    torch.manual_seed(0)
    tower = {"kind": "small_cnn", "channels": 4}
    model = EclipModel(EclipConfig(dim=8, image_tower=tower, text_tower={"kind": "sentence_set"}))
    images = np.random.default_rng(0).integers(0, 255, (40, 36, 36), dtype=np.uint8)
    prepared = {
        "sentences": torch.randn(40, 3, 384),
        "present": torch.ones(40, 3, dtype=torch.bool),
    }
    study = torch.arange(40)
    data = TrainingSet(images, study, prepared, torch.randn(40, 5), torch.zeros(40, 1), ("x",))
    transform = EvalTransform(size=32)
    update_bn(model, data, transform=transform)
    good = {name: value.clone() for name, value in model.state_dict().items()}

    model.train()
    model.encode_image(50 + 30 * torch.randn(16, 3, 32, 32))
    assert not torch.allclose(model.image_centre.mean, good["image_centre.mean"])
    update_bn(model, data, transform=transform)
    assert not model.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, good[name], msg=name)

    with torch.no_grad():
        rows = torch.from_numpy(images).float() / 255
        pixels = transform.normalise(transform.stretch(transform.resize(rows)))
        centred = model.image_projection(model.image_tower(pixels)) - model.image_centre.mean
    torch.testing.assert_close(centred.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
