"""Loads an encoder by its name in the settings; docs/encoders.md lists the forms.

A new family is one more row of `_LOADERS`. Imports torch, which takes seconds, only to load.
"""

from importlib import import_module
from pathlib import Path

from encoders.base import ImageEncoder
from encoders.packaged_weights import SHIPPED_ENCODER, EncoderError, read_json

DEFAULT_ENCODER = "eclip"
_ECLIP_PREFIX = "eclip:"
_PRETRAINED, _LIBRARIES = "encoders.pretrained", "encoders.library_models"
_LOADERS = {
    "hf:": (_PRETRAINED, "load_pair"),
    "open_clip:": (_LIBRARIES, "load_open_clip"),
    "image:hf:": (_PRETRAINED, "load_vision_model"),
    "image:timm:": (_LIBRARIES, "load_timm"),
    "image:torchxrayvision:": (_LIBRARIES, "load_torchxrayvision"),
}
"""Prefix of a name to the module and function that load the rest of it."""


def load_encoder(name: str | Path = DEFAULT_ENCODER, *, backend: str = "auto") -> ImageEncoder:
    """The encoder of a name, of a folder, or the shipped one; it may embed images only.

    ``backend`` is for eCLIP encoders: "auto" uses ONNX Runtime if possible, "torch" never.

    Raises:
        EncoderError: no such encoder, or it cannot be loaded.
    """
    text = str(name)
    if folder := eclip_folder(text):
        from encoders.eclip.encoder import load_encoder as load_eclip  # noqa: PLC0415

        return load_eclip(folder, backend=backend)
    if Path(text).is_dir():
        text = f"hf:{text}"
    for prefix, (module, function) in _LOADERS.items():
        if text.startswith(prefix):
            encoder: ImageEncoder = getattr(import_module(module), function)(
                text.removeprefix(prefix)
            )
            return encoder
    forms = ", ".join(f"{prefix}…" for prefix in (_ECLIP_PREFIX, *_LOADERS))
    raise EncoderError(
        f"no encoder {text!r}: it is neither a model folder nor one of {DEFAULT_ENCODER}, {forms}"
    )


def eclip_folder(name: str) -> Path | None:
    """The folder of an eCLIP encoder and of the models fitted to it; None for a published model."""
    if name == DEFAULT_ENCODER:
        return SHIPPED_ENCODER
    if name.startswith(_ECLIP_PREFIX):
        return Path(name.removeprefix(_ECLIP_PREFIX))
    folder = Path(name)
    if folder.is_dir() and read_json(folder / "config.json").get("model_type") == "eclip":
        return folder
    return None
