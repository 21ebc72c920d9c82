"""One string names an encoder: `load_encoder` finds and loads it.

| string | encoder |
|---|---|
| ``eclip`` | the one that ships with this package |
| ``eclip:FOLDER``, or a folder | a model that was trained here, or any folder of the next row |
| ``hf:ID``, ``hf:FOLDER`` | a published CLIP, SigLIP, SigLIP 2 or VisionTextDualEncoder |
| ``open_clip:hf-hub:ID``, ``open_clip:FOLDER`` | a model of open_clip, such as BiomedCLIP |
| ``image:hf:ID``, ``image:hf:FOLDER`` | a vision model: it embeds images alone |
| ``image:timm:NAME``, ``image:timm:FOLDER`` | a model of timm, images alone |
| ``image:torchxrayvision:NAME`` | a DenseNet of torchxrayvision, images alone |

A new family is one more row of `_LOADERS`. Nothing heavy is imported before it is needed.
"""

from collections.abc import Callable
from pathlib import Path

from encoders.base import ImageEncoder, ImageTextEncoder, embeds_texts
from encoders.packaged_weights import SHIPPED, EncoderError, read_json

DEFAULT = "eclip"


def load_encoder(name: str | Path = DEFAULT, *, backend: str = "auto") -> ImageTextEncoder:
    """The encoder of a string, for images and texts.

    Args:
        name: see the table above.
        backend: of an eCLIP encoder: "auto" runs its image side in ONNX Runtime where it can be,
            "torch" never.

    Raises:
        EncoderError: no such encoder, or it cannot be loaded; the message says what to do.
    """
    encoder = load_image_encoder(name, backend=backend)
    if not embeds_texts(encoder):
        raise EncoderError(f"{name} embeds images only; an encoder of images and texts is needed")
    return encoder


def load_image_encoder(name: str | Path = DEFAULT, *, backend: str = "auto") -> ImageEncoder:
    """The encoder of a string, whether or not it embeds texts.

    Args:
        name: see the table above.
        backend: as for `load_encoder`.

    Raises:
        EncoderError: no such encoder, or it cannot be loaded.
    """
    text = str(name)
    if text == DEFAULT:
        return _load_eclip("", backend)
    for prefix, load in _LOADERS.items():
        if text.startswith(prefix):
            return load(text.removeprefix(prefix), backend)
    if not Path(text).is_dir():
        forms = ", ".join(f"{prefix}…" for prefix in _LOADERS)
        raise EncoderError(
            f"no encoder {text!r}: it is neither a model folder nor one of {DEFAULT}, {forms}"
        )
    return _load_eclip(text, backend) if _is_eclip(text) else _load_pair(text, backend)


def folder_of(name: str) -> Path | None:
    """The folder of an eCLIP encoder, where what was trained on its vectors lies too.

    None for a published model: nothing of ours goes into its folder.
    """
    if name == DEFAULT:
        return SHIPPED
    if name.startswith("eclip:"):
        return Path(name.removeprefix("eclip:"))
    return Path(name) if Path(name).is_dir() and _is_eclip(name) else None


def _is_eclip(folder: str) -> bool:
    return read_json(Path(folder) / "config.json").get("model_type") == "eclip"


def _load_eclip(folder: str, backend: str) -> ImageTextEncoder:
    from encoders.eclip import load_encoder as load  # noqa: PLC0415 - torch takes seconds

    return load(Path(folder) if folder else None, backend=backend)


def _load_pair(name: str, _: str) -> ImageTextEncoder:
    from encoders.pretrained import load_pair  # noqa: PLC0415 - torch takes seconds

    return load_pair(name)


def _load_vision_model(name: str, _: str) -> ImageEncoder:
    from encoders.pretrained import load_vision_model  # noqa: PLC0415 - torch takes seconds

    return load_vision_model(name)


def _load_open_clip(name: str, _: str) -> ImageTextEncoder:
    from encoders.library_models import load_open_clip  # noqa: PLC0415 - torch takes seconds

    return load_open_clip(name)


def _load_timm(name: str, _: str) -> ImageEncoder:
    from encoders.library_models import load_timm  # noqa: PLC0415 - torch takes seconds

    return load_timm(name)


def _load_torchxrayvision(name: str, _: str) -> ImageEncoder:
    from encoders.library_models import load_torchxrayvision  # noqa: PLC0415 - torch takes seconds

    return load_torchxrayvision(name)


_LOADERS: dict[str, Callable[[str, str], ImageEncoder]] = {
    "eclip:": _load_eclip,
    "hf:": _load_pair,
    "open_clip:": _load_open_clip,
    "image:hf:": _load_vision_model,
    "image:timm:": _load_timm,
    "image:torchxrayvision:": _load_torchxrayvision,
}
