"""Published models of open_clip, timm and torchxrayvision as encoders, each with its own transform.

Each library is an optional extra. Weights are read from safetensors only, since a pickle can run
code; if a publisher has nothing else, the error says how to convert it. A missing library or an
unusable model raises `EncoderError`.

Source: the vectors are those of open_clip's ``encode_image`` and ``encode_text``, of a timm model
without its classifier, and of torchxrayvision's ``features2``, normalized.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from encoders.base import CxrImage
from encoders.packaged_weights import EncoderError, file_sha256, read_json
from encoders.pretrained import (
    PretrainedEncoder,
    PretrainedImageEncoder,
    content_id,
    device_of,
    find_model_folder,
    prepare_for_inference,
    require_tokenizer,
    to_uint8,
)

_LOAD_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    AssertionError,
    SafetensorError,
)

_HUB_PREFIX = "hf-hub:"
_CONVERT_COMMAND = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "save_file(torch.load('{0}', weights_only=True), '{1}')\""
)
_CONVERT_XRV_COMMAND = (
    'python -c "import torchxrayvision as xrv; from safetensors.torch import save_file; '
    "save_file(xrv.models.DenseNet(weights='{0}').state_dict(), '{1}')\""
)


def load_open_clip(name: str) -> PretrainedEncoder:
    """A model of open_clip (BiomedCLIP, CLIP, SigLIP, CoCa), in the layout of its hub repositories.

    ``name`` is a folder with ``open_clip_config.json``, or ``hf-hub:ID`` as open_clip writes it.
    """
    open_clip = _import_library("open_clip", extra="open_clip")
    folder = find_model_folder(name.removeprefix(_HUB_PREFIX))
    config = read_json(folder / "open_clip_config.json")
    _refuse_pickle(folder)
    if "hf_tokenizer_name" in config.get("model_cfg", {}).get("text_cfg", {}):
        require_tokenizer(folder)
    source = f"local-dir:{folder}"
    with _as_encoder_error(folder):
        model = open_clip.create_model(source, pretrained_text=False, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(source)
        settings = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
        transform = open_clip.transform.image_transform_v2(settings, is_train=False)
    model = prepare_for_inference(model)
    device = device_of(model)
    return PretrainedEncoder(
        lambda images: model.encode_image(
            _transform_batch(images, transform, mode="RGB").to(device)
        ),
        lambda texts: model.encode_text(tokenizer(list(texts)).to(device)),
        preprocessing=asdict(settings),
        encoder_id=content_id(name, folder),
    )


def load_timm(name: str) -> PretrainedImageEncoder:
    """A model of timm without its classifier.

    ``name`` is a folder with timm's ``config.json``, a hub id, or a timm model name
    (``vit_small_patch14_dinov2.lvd142m``).
    """
    timm = _import_library("timm", extra="timm")
    model_id = name.removeprefix(_HUB_PREFIX)
    is_timm_name = "/" not in model_id and not Path(model_id).is_dir()
    folder = find_model_folder(f"timm/{model_id}" if is_timm_name else model_id)
    read_json(folder / "config.json")
    _refuse_pickle(folder)
    with _as_encoder_error(folder):
        model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
        settings = timm.data.resolve_model_data_config(model)
        transform = timm.data.create_transform(**settings, is_training=False)
    model = prepare_for_inference(model)
    device = device_of(model)
    mode = "L" if settings["input_size"][0] == 1 else "RGB"
    return PretrainedImageEncoder(
        lambda images: model(_transform_batch(images, transform, mode=mode).to(device)),
        preprocessing=settings,
        encoder_id=content_id(name, folder),
    )


def load_torchxrayvision(name: str) -> PretrainedImageEncoder:
    """A DenseNet-121 of torchxrayvision without its classifier, by the name of its weights."""
    xrv = _import_library("torchxrayvision", extra="torchxrayvision")
    names = [name for name in xrv.models.model_urls if name.startswith("densenet121")]
    if name not in names:
        raise EncoderError(f"torchxrayvision has no {name!r}; it has {', '.join(names)}")
    path = Path(xrv.utils.get_cache_dir()).expanduser() / f"{name}.safetensors"
    if not path.is_file():
        raise EncoderError(
            f"{path} is missing: torchxrayvision publishes pickles, which can run code. If you "
            f"trust them and have a network, run `{_CONVERT_XRV_COMMAND.format(name, path)}` once"
        )
    size = int(xrv.models.model_urls[name]["input_resolution"])
    model = xrv.models.DenseNet(num_classes=len(xrv.models.model_urls[name]["labels"]))
    with _as_encoder_error(path):  # not strict: a published file also has operating points
        missing = model.load_state_dict(load_file(path), strict=False).missing_keys
    if missing:
        raise EncoderError(f"{path} lacks {len(missing)} weights of its model, {missing[0]} first")
    model = prepare_for_inference(model)
    device = device_of(model)
    crop, resize = xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(size)

    def image_features(images: Sequence[CxrImage]) -> Tensor:
        grey = [xrv.datasets.normalize(to_uint8(image), 255)[None] for image in images]
        pixels = np.stack([resize(crop(channel)) for channel in grey])
        return torch.as_tensor(model.features2(torch.from_numpy(pixels).float().to(device)))

    return PretrainedImageEncoder(
        image_features,
        preprocessing={"library": "torchxrayvision", "size": size, "range": [-1024, 1024]},
        encoder_id=f"{name}@{file_sha256(path)[:12]}",
    )


def _import_library(module: str, *, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EncoderError(
            f"this encoder needs {module} and its dependencies ({error}): run "
            f"`pip install 'cxr-rag[{extra}]'`"
        ) from error


def _refuse_pickle(folder: Path) -> None:
    """Refuse a folder without safetensors: the library would load its pickle."""
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path for end in ("bin", "pt", "pth") for path in folder.glob(f"*.{end}"))
    pickle = pickles[0] if pickles else folder / "pytorch_model.bin"
    raise EncoderError(
        f"{folder} has no weights as .safetensors, and a pickle, which can run code, is not read: "
        "if the publisher has nothing else, copy the folder, put the pickle there and convert it "
        f"once, `{_CONVERT_COMMAND.format(pickle, pickle.with_suffix('.safetensors'))}`, then name "
        "that folder"
    )


@contextmanager
def _as_encoder_error(path: Path) -> Iterator[None]:
    """Turn what a library raises for an unsuitable or damaged folder into an EncoderError."""
    try:
        yield
    except _LOAD_ERRORS as error:
        raise EncoderError(
            f"cannot use the model in {path}: {type(error).__name__}: {error}; it needs the files "
            "of its release, whole, with safetensors"
        ) from error


def _transform_batch(
    images: Sequence[CxrImage], transform: Callable[[Image.Image], Tensor], *, mode: str
) -> Tensor:
    """Images through the publisher's transform."""
    return torch.stack(
        [transform(Image.fromarray(to_uint8(image)).convert(mode)) for image in images]
    )
