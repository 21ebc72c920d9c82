"""Published models of Hugging Face as encoders, used as published.

A CLIP, SigLIP, SigLIP 2 or VisionTextDualEncoder embeds images and texts with its own projections,
image processor, tokenizer and context length; any vision model (DINOv2, RAD-DINO, ViT) embeds
images only. The processor's settings are part of the encoder's identity. Only safetensors are read:
a pickle can run code. What cannot be loaded raises `EncoderError`. Other libraries:
`encoders.library_models`.

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

_BATCH_SIZE = 16
_GPU_DEVICE = "cuda"
_FILE_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Files that are downloaded and hashed: configuration, tokenizer, weights."""

_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")

Vectors = NDArray[np.float32]
ImageFeatures = Callable[[Sequence[CxrImage]], torch.Tensor]
_Item = TypeVar("_Item")


class PretrainedImageEncoder:
    """Embeds images with a published vision model, or with the image tower of a published pair.

    Args:
        image_features: images to float32 [N, dim], not yet normalized.
        preprocessing: settings of the image transform: size, crop, mean, ...
        encoder_id: name and content hash.
    """

    findings: tuple[str, ...] = ()
    """Findings with a map: none."""

    def __init__(
        self, image_features: ImageFeatures, *, preprocessing: Mapping[str, Any], encoder_id: str
    ) -> None:
        self._image_features = image_features
        self.encoder_id = encoder_id
        settings = json.dumps(preprocessing, sort_keys=True, default=str)
        self.preprocess_hash = hashlib.sha256(settings.encode()).hexdigest()[:12]
        # Measured, because configurations name it differently.
        blank = CxrImage(np.zeros((8, 8), np.float32), source_sha256="")
        self.dim: int = _embed(image_features, [blank]).shape[1]

    def embed_images(self, images: Sequence[CxrImage]) -> Vectors:
        """Images to vectors: float32 [N, dim], rows of norm 1."""
        return _embed(self._image_features, images, dim=self.dim)

    def outputs(self, image: CxrImage) -> ImageOutput:
        """The vector of an image, also as its features, and no finding maps."""
        vector = self.embed_images([image])
        return ImageOutput(vector, vector, np.empty((1, 0, 1, 1), np.float32))


class PretrainedEncoder(PretrainedImageEncoder):
    """Embeds images and texts with a published pair of towers.

    ``text_features`` turns texts into float32 [N, dim], not yet normalized, and truncates them.
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
        """Texts to vectors: float32 [N, dim], rows of norm 1. Long texts are truncated.

        Raises:
            ValueError: a text is empty.
        """
        if not all(text.strip() for text in texts):
            raise ValueError("an empty text cannot be embedded; leave the report out")
        return _embed(self._text_features, texts, dim=self.dim)


@torch.inference_mode()
def _embed(
    features: Callable[[Sequence[_Item]], torch.Tensor], items: Sequence[_Item], *, dim: int = 0
) -> Vectors:
    """Features in batches, normalized: float32 [N, dim]; ``dim`` is used if there are no items."""
    if not items:
        return np.empty((0, dim), np.float32)
    rows = []
    for start in range(0, len(items), _BATCH_SIZE):
        batch = features(items[start : start + _BATCH_SIZE]).float()
        rows.append(torch.nn.functional.normalize(batch, dim=-1).cpu().numpy())
    return np.concatenate(rows)


def load_pair(name: str) -> PretrainedEncoder:
    """A CLIP, SigLIP, SigLIP 2 or VisionTextDualEncoder, by its folder or its id on the hub."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    folder = find_model_folder(name)
    model, processor = _load_model_and_processor(folder)
    if not hasattr(model, "get_text_features"):
        raise EncoderError(
            f"{name} is a {type(model).__name__}, which embeds no texts; use image:hf:{name}"
        )
    tokenizer = _load(AutoTokenizer, folder, require_tokenizer(folder))
    positions = getattr(model.config.text_config, "max_position_embeddings", None)
    context = min(tokenizer.model_max_length, positions or tokenizer.model_max_length)

    def text_features(texts: Sequence[str]) -> torch.Tensor:
        tokens = tokenizer(
            list(texts),
            padding="max_length",  # as SigLIP was trained; others mask the padding
            truncation=True,
            max_length=context,
            return_tensors="pt",
        )
        return pooled_output(model.get_text_features(**tokens.to(model.device)))

    return PretrainedEncoder(
        lambda images: pooled_output(
            model.get_image_features(**_preprocess(processor, images, model))
        ),
        text_features,
        preprocessing=processor.to_dict(),
        encoder_id=content_id(name, folder),
    )


def load_vision_model(name: str) -> PretrainedImageEncoder:
    """Any vision model that ``AutoModel`` knows, by its folder or its id on the hub."""
    folder = find_model_folder(name)
    model, processor = _load_model_and_processor(folder)
    return PretrainedImageEncoder(
        lambda images: pooled_output(model(**_preprocess(processor, images, model))),
        preprocessing=processor.to_dict(),
        encoder_id=content_id(name, folder),
    )


def find_model_folder(name: str) -> Path:
    """The folder of a model: ``name`` itself, or the hub's snapshot, downloaded once."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILE_PATTERNS)))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise EncoderError(
            f"{name} is neither a folder nor a model that can be downloaded from the Hugging Face "
            f"hub ({type(error).__name__}); where there is a network run `hf download {name} "
            "--local-dir FOLDER`, copy the folder here and name it instead"
        ) from error


def prepare_for_inference(model: Any) -> Any:
    """A published model in evaluation mode, on the GPU if there is one.

    Its vectors differ from a CPU's by rounding. The shipped encoder stays on the CPU, where it is
    fast.
    """
    return (
        model.eval().requires_grad_(False).to(_GPU_DEVICE if torch.cuda.is_available() else "cpu")
    )


def device_of(model: Any) -> torch.device:
    """The device of a model's parameters."""
    device: torch.device = next(model.parameters()).device
    return device


def content_id(name: str, folder: Path) -> str:
    """Name of a model and a hash of its files: configuration, tokenizer, weights."""
    paths = sorted({path for pattern in _FILE_PATTERNS for path in folder.glob(pattern)})
    parts = "".join(f"{path.name} {file_sha256(path)}" for path in paths)
    return f"{Path(name).name}@{hashlib.sha256(parts.encode()).hexdigest()[:12]}"


def require_tokenizer(folder: Path) -> str:
    """The vocabulary file of a folder: without one, transformers creates an empty tokenizer."""
    for name in _VOCABULARIES:
        if (folder / name).is_file():
            return name
    raise EncoderError(f"no tokenizer in {folder}: it has none of {', '.join(_VOCABULARIES)}")


def to_uint8(image: CxrImage) -> NDArray[np.uint8]:
    """Grey values as uint8 [H, W], as image processors expect them."""
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
    # Always Pillow: another backend resizes to other pixels.
    processor = _load(AutoImageProcessor, folder, "preprocessor_config.json", backend="pil")
    return prepare_for_inference(model), processor


def _load(loader: Any, folder: Path, file: str, **options: Any) -> Any:
    """Load a folder with a transformers class; ``file`` is the one it reads first."""
    from safetensors import SafetensorError  # noqa: PLC0415

    if file.endswith(".json"):
        read_json(folder / file)
    try:
        return loader.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise EncoderError(
            f"cannot load {folder / file} and what belongs to it: {error}; the folder must be whole"
        ) from error


def _preprocess(processor: Any, images: Sequence[CxrImage], model: Any) -> Any:
    rgb = [np.repeat(to_uint8(image)[..., None], 3, axis=2) for image in images]
    return processor(images=rgb, return_tensors="pt").to(model.device)
