"""One string names an encoder: `load_encoder` finds and loads it.

| string | encoder |
|---|---|
| ``eclip`` | the one that ships with this package |
| ``eclip:FOLDER``, or a folder | a model that was trained here, or any folder of the next row |
| ``hf:ID``, ``hf:FOLDER`` | a published CLIP, SigLIP, SigLIP 2 or VisionTextDualEncoder |
| ``image:hf:ID``, ``image:hf:FOLDER`` | a vision model: it embeds images alone |

A new family is one more row of `_LOADERS`. Nothing heavy is imported before it is needed.
"""

from collections.abc import Callable
from pathlib import Path

from encoders.base import ImageEncoder, ImageTextEncoder
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
    if not hasattr(encoder, "embed_texts"):
        raise EncoderError(f"{name} embeds images only; an encoder of images and texts is needed")
    return encoder  # type: ignore[return-value] # it has all of them


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
    folder = Path(text)
    if not folder.is_dir():
        forms = ", ".join(f"{prefix}…" for prefix in _LOADERS)
        raise EncoderError(
            f"no encoder {text!r}: it is neither a model folder nor one of {DEFAULT}, {forms}"
        )
    kind = read_json(folder / "config.json").get("model_type")
    return _load_eclip(text, backend) if kind == "eclip" else _load_pair(text, backend)


def folder_of(name: str) -> Path:
    """The folder of an encoder, where what was trained on its vectors lies too.

    A model of the hub has none here: the folder then does not exist.
    """
    if name == DEFAULT:
        return SHIPPED
    prefix = next((prefix for prefix in _LOADERS if name.startswith(prefix)), "")
    return Path(name.removeprefix(prefix))


def _load_eclip(folder: str, backend: str) -> ImageTextEncoder:
    from encoders.eclip import load_encoder as load  # noqa: PLC0415 - torch takes seconds

    return load(Path(folder) if folder else None, backend=backend)


def _load_pair(name: str, _: str) -> ImageTextEncoder:
    from encoders.pretrained import load_pair  # noqa: PLC0415 - torch takes seconds

    return load_pair(name)


def _load_vision_model(name: str, _: str) -> ImageEncoder:
    from encoders.pretrained import load_vision_model  # noqa: PLC0415 - torch takes seconds

    return load_vision_model(name)


_LOADERS: dict[str, Callable[[str, str], ImageEncoder]] = {
    "eclip:": _load_eclip,
    "hf:": _load_pair,
    "image:hf:": _load_vision_model,
}
