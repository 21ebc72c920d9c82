"""Published models of Hugging Face as encoders: nothing of theirs is replaced by ours.

A CLIP, SigLIP, SigLIP 2 or VisionTextDualEncoder embeds images and texts with its own projections,
image processor, tokenizer and context length; any vision model (DINOv2, RAD-DINO, ViT) embeds
images alone. The processor's settings are part of the encoder's identity. Only safetensors are
read: a pickle can run code. Other libraries: `encoders.library_models`.

Source: the vectors are those of ``get_image_features`` and ``get_text_features`` of transformers,
normalized; for a vision model its pooled output.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.base import CxrImage
from encoders.eclip.encoder import ImageOutput
from encoders.packaged_weights import EncoderError, file_sha256, read_json
from encoders.towers.hugging_face import pooled_output

_BATCH = 16
_GPU = "cuda"
_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is fetched and hashed: configuration, tokenizer, weights."""

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")

Vectors = NDArray[np.float32]
ImageFeatures = Callable[[Sequence[CxrImage]], torch.Tensor]
_Item = TypeVar("_Item")


class PretrainedImageEncoder:
    """Embeds images with a published vision model, or with the image side of a published pair.

    Args:
        image_features: images to float32 [N, dim], in evaluation mode; not yet normalized.
        preprocessing: what is done to an image before, as data: size, crop, mean, ...
        encoder_id: name and content hash.
    """

    findings: tuple[str, ...] = ()
    """Findings of which there are maps: none."""

    def __init__(
        self, image_features: ImageFeatures, *, preprocessing: Mapping[str, Any], encoder_id: str
    ) -> None:
        self._image_features = image_features
        self.encoder_id = encoder_id
        settings = json.dumps(preprocessing, sort_keys=True, default=str)
        self.preprocess_hash = hashlib.sha256(settings.encode()).hexdigest()[:12]
        # Shown by a black image: configurations do not agree on where they say it.
        blank = CxrImage(np.zeros((8, 8), np.float32), source_sha256="")
        self.dim: int = _unit_rows(image_features, [blank]).shape[1]

    def embed_images(self, images: Sequence[CxrImage]) -> Vectors:
        """Images to vectors: float32 [N, dim], rows of norm 1."""
        return _unit_rows(self._image_features, images, width=self.dim)

    def outputs(self, image: CxrImage) -> ImageOutput:
        """Vector of an image; its features are the vector again, finding maps there are none."""
        vector = self.embed_images([image])
        return ImageOutput(vector, vector, np.empty((1, 0, 1, 1), np.float32))


class PretrainedEncoder(PretrainedImageEncoder):
    """Embeds images and texts with a published pair of towers.

    ``text_features`` makes texts float32 [N, dim], not yet normalized, and cuts what is too long.
    """

    def __init__(
        self,
        image_features: ImageFeatures,
        text_features: Callable[[Sequence[str]], torch.Tensor],
        *,
        preprocessing: Mapping[str, Any],
        encoder_id: str,
    ) -> None:
        super().__init__(image_features, preprocessing=preprocessing, encoder_id=encoder_id)
        self._text_features = text_features

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts to vectors: float32 [N, dim], rows of norm 1. Longer texts are cut.

        Raises:
            ValueError: a text is empty.
        """
        if not all(text.strip() for text in texts):
            raise ValueError("an empty text cannot be embedded; leave the report out")
        return _unit_rows(self._text_features, texts, width=self.dim)


@torch.inference_mode()
def _unit_rows(
    features: Callable[[Sequence[_Item]], torch.Tensor], items: Sequence[_Item], *, width: int = 0
) -> Vectors:
    """Features of the items, batch by batch, as rows of norm 1; ``width`` is for no item at all."""
    rows = [np.empty((0, width), np.float32)] if not items else []
    for at in range(0, len(items), _BATCH):
        found = features(items[at : at + _BATCH]).float()
        rows.append(torch.nn.functional.normalize(found, dim=-1).cpu().numpy())
    return np.concatenate(rows)


def load_pair(name: str) -> PretrainedEncoder:
    """A CLIP, SigLIP, SigLIP 2 or VisionTextDualEncoder, by its folder or its id on the hub.

    Raises:
        EncoderError: it cannot be had, is damaged, or is no pair of towers.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    folder = locate(name)
    model, processor = _load_model_and_processor(folder)
    if not hasattr(model, "get_text_features"):
        raise EncoderError(
            f"{name} is a {type(model).__name__}, which embeds no texts; use image:hf:{name}"
        )
    tokenizer = _load(AutoTokenizer, folder, require_tokenizer(folder))
    context = context_length(model, tokenizer)

    def text_features(texts: Sequence[str]) -> torch.Tensor:
        tokens = tokenizer(
            list(texts),
            padding="max_length",  # SigLIP was trained so; others mask what is padded
            truncation=True,
            max_length=context,
            return_tensors="pt",
        )
        return pooled_output(model.get_text_features(**tokens.to(model.device)))

    return PretrainedEncoder(
        lambda images: pooled_output(
            model.get_image_features(**_processed(processor, images, model))
        ),
        text_features,
        preprocessing=processor.to_dict(),
        encoder_id=content_id(name, folder),
    )


def load_vision_model(name: str) -> PretrainedImageEncoder:
    """Any vision model that ``AutoModel`` knows, by its folder or its id on the hub.

    Raises:
        EncoderError: it cannot be had or is damaged.
    """
    folder = locate(name)
    model, processor = _load_model_and_processor(folder)
    return PretrainedImageEncoder(
        lambda images: pooled_output(model(**_processed(processor, images, model))),
        preprocessing=processor.to_dict(),
        encoder_id=content_id(name, folder),
    )


def locate(name: str) -> Path:
    """The folder of a model: itself, or a snapshot of the hub's (fetched once, then cached).

    Raises:
        EncoderError: there is no such folder, and the hub cannot be asked.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise EncoderError(
            f"{name} is neither a folder nor a model that the Hugging Face hub gives here "
            f"({type(error).__name__}); where there is a network run `hf download {name} "
            "--local-dir FOLDER`, bring the folder here and name it instead"
        ) from error


def frozen(model: Any) -> Any:
    """A published model in evaluation mode, on the GPU where torch sees one.

    Its vectors then differ from a CPU's by what rounding makes. The shipped encoder stays on the
    CPU, where it is fast.
    """
    return model.eval().requires_grad_(False).to(_GPU if torch.cuda.is_available() else "cpu")


def device_of(model: Any) -> torch.device:
    """Where a model computes."""
    device: torch.device = next(model.parameters()).device
    return device


def context_length(model: Any, tokenizer: Any) -> int:
    """Tokens that the text side reads: what both the tokenizer and the positions allow."""
    positions = getattr(model.config.text_config, "max_position_embeddings", None)
    return int(min(tokenizer.model_max_length, positions or tokenizer.model_max_length))


def content_id(name: str, folder: Path) -> str:
    """Name of a model and a hash of its files: configuration, tokenizer, weights."""
    paths = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
    parts = "".join(f"{path.name} {file_sha256(path)}" for path in paths)
    return f"{Path(name).name}@{hashlib.sha256(parts.encode()).hexdigest()[:12]}"


def require_tokenizer(folder: Path) -> str:
    """The vocabulary file of a folder's tokenizer.

    Raises:
        EncoderError: it has none; transformers would make an empty tokenizer.
    """
    for name in _VOCABULARIES:
        if (folder / name).is_file():
            return name
    raise EncoderError(f"no tokenizer in {folder}: it has none of {', '.join(_VOCABULARIES)}")


def grey_bytes(image: CxrImage) -> NDArray[np.uint8]:
    """Grey values as bytes [H, W], which is what image processors are made for."""
    return np.rint(image.pixels * 255).clip(0, 255).astype(np.uint8)


def _load_model_and_processor(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoModel  # noqa: PLC0415 - seconds to import

    model, report = _load(
        AutoModel, folder, "config.json", use_safetensors=True, output_loading_info=True
    )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise EncoderError(
            f"{folder} lacks {len(missing)} weights of its model, {missing[0]} first"
        )
    # In Pillow, whatever else is installed: another backend resizes to other pixels.
    processor = _load(AutoImageProcessor, folder, "preprocessor_config.json", backend="pil")
    return frozen(model), processor


def _load(loader: Any, folder: Path, file: str, **options: Any) -> Any:
    """What a loader of transformers makes of a folder; ``file`` is the one it begins with."""
    from safetensors import SafetensorError  # noqa: PLC0415

    if file.endswith(".json"):
        read_json(folder / file)
    try:
        return loader.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise EncoderError(
            f"cannot load {folder / file} and what belongs to it: {error}; the folder must be whole"
        ) from error


def _processed(processor: Any, images: Sequence[CxrImage], model: Any) -> Any:
    rgb = [np.repeat(grey_bytes(image)[..., None], 3, axis=2) for image in images]
    return processor(images=rgb, return_tensors="pt").to(model.device)
