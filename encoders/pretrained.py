"""Published models of Hugging Face as encoders: nothing of theirs is replaced by ours.

A CLIP, SigLIP, SigLIP 2 or VisionTextDualEncoder embeds images and texts with its own projections,
image processor, tokenizer and context length; any vision model (DINOv2, RAD-DINO, ViT) embeds
images alone. The processor's settings are part of the encoder's identity. Only safetensors are
read: a pickle can run code.

Source: the vectors are those of ``get_image_features`` and ``get_text_features`` of transformers,
normalized; for a vision model its pooled output.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.base import CxrImage
from encoders.packaged_weights import EncoderError, file_sha256, read_json
from encoders.towers.hugging_face import pooled

_BATCH = 16
_PROCESSOR = "preprocessor_config.json"
_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
"""What is fetched and hashed: configuration, tokenizer, weights."""

_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
)

Vectors = NDArray[np.float32]
_Item = TypeVar("_Item")


class PretrainedImageEncoder:
    """Embeds images with a published vision model, or with the image side of a published pair.

    Args:
        model, processor: of transformers.
        encoder_id: name and content hash.
        image_features: of the model, tensor inputs to float32 [N, dim].
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        encoder_id: str,
        image_features: Callable[..., torch.Tensor],
    ) -> None:
        self._model = model
        self._processor = processor
        self._encoder_id = encoder_id
        self._image_features = image_features
        self._dim: int = self._embed_images([_BLANK]).shape[1]

    @property
    def encoder_id(self) -> str:
        """Name of the model and content hash of its files."""
        return self._encoder_id

    @property
    def preprocess_hash(self) -> str:
        """Hash of the image processor's settings."""
        text = json.dumps(self._processor.to_dict(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._dim

    def embed_images(self, images: Sequence[CxrImage]) -> Vectors:
        """Images to vectors: float32 [N, dim], rows of norm 1."""
        rows = [self._embed_images(some) for some in _batches(images)]
        return np.concatenate([np.empty((0, self.dim), np.float32), *rows])

    @torch.inference_mode()
    def _embed_images(self, images: Sequence[CxrImage]) -> Vectors:
        inputs = self._processor(images=[_as_rgb(image) for image in images], return_tensors="pt")
        return _unit_rows(self._image_features(**inputs.to(self._model.device)))


class PretrainedEncoder(PretrainedImageEncoder):
    """Embeds images and texts with a published pair of towers."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any, *, encoder_id: str) -> None:
        super().__init__(
            model,
            processor,
            encoder_id=encoder_id,
            image_features=lambda **inputs: pooled(model.get_image_features(**inputs)),
        )
        self._tokenizer = tokenizer
        self._context = context_length(model, tokenizer)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts to vectors: float32 [N, dim], rows of norm 1. Longer texts are cut.

        Raises:
            ValueError: a text is empty.
        """
        if not all(text.strip() for text in texts):
            raise ValueError("an empty text cannot be embedded; leave the report out")
        rows = []
        for some in _batches(texts):
            tokens = self._tokenizer(
                list(some),
                padding="max_length",  # SigLIP was trained so; others mask what is padded
                truncation=True,
                max_length=self._context,
                return_tensors="pt",
            ).to(self._model.device)
            rows.append(_unit_rows(pooled(self._model.get_text_features(**tokens))))
        return np.concatenate([np.empty((0, self.dim), np.float32), *rows])


def load_pair(name: str) -> PretrainedEncoder:
    """A CLIP, SigLIP, SigLIP 2 or VisionTextDualEncoder with all that belongs to it.

    Args:
        name: a folder, or the id of a model on the Hugging Face hub.

    Raises:
        EncoderError: it cannot be had, is damaged, or is no pair of towers.
    """
    folder = locate(name)
    model = _load_model(folder)
    if not hasattr(model, "get_text_features"):
        raise EncoderError(
            f"{name} is a {type(model).__name__}, which embeds no texts; use image:hf:{name}"
        )
    return PretrainedEncoder(
        model,
        _load_processor(folder),
        _load_tokenizer(folder),
        encoder_id=_encoder_id(name, folder),
    )


def load_vision_model(name: str) -> PretrainedImageEncoder:
    """Any vision model that ``AutoModel`` knows, for retrieval by images alone.

    Args:
        name: a folder, or the id of a model on the Hugging Face hub.

    Raises:
        EncoderError: it cannot be had or is damaged.
    """
    folder = locate(name)
    model = _load_model(folder)
    return PretrainedImageEncoder(
        model,
        _load_processor(folder),
        encoder_id=_encoder_id(name, folder),
        image_features=lambda **inputs: pooled(model(**inputs)),
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


def context_length(model: Any, tokenizer: Any) -> int:
    """Tokens that the text side reads: what both the tokenizer and the positions allow."""
    positions = getattr(model.config.text_config, "max_position_embeddings", None)
    return int(min(tokenizer.model_max_length, positions or tokenizer.model_max_length))


def _load_model(folder: Path) -> Any:
    from transformers import AutoModel  # noqa: PLC0415 - seconds to import

    model, report = _load(
        AutoModel, folder, "config.json", use_safetensors=True, output_loading_info=True
    )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise EncoderError(
            f"{folder} lacks {len(missing)} weights of its model, {missing[0]} first"
        )
    return model.eval().requires_grad_(False)


def _load_processor(folder: Path) -> Any:
    """In Pillow, whatever else is installed: another backend resizes to other pixels."""
    from transformers import AutoImageProcessor  # noqa: PLC0415 - seconds to import

    return _load(AutoImageProcessor, folder, _PROCESSOR, backend="pil")


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    vocabulary = next((name for name in _VOCABULARIES if (folder / name).is_file()), "")
    if not vocabulary:  # transformers would make an empty one
        raise EncoderError(f"no tokenizer in {folder}: it has none of {', '.join(_VOCABULARIES)}")
    return _load(AutoTokenizer, folder, vocabulary)


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


def _encoder_id(name: str, folder: Path) -> str:
    paths = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
    parts = "".join(f"{path.name} {file_sha256(path)}" for path in paths)
    return f"{Path(name).name}@{hashlib.sha256(parts.encode()).hexdigest()[:12]}"


def _as_rgb(image: CxrImage) -> NDArray[np.uint8]:
    """Grey values as bytes [H, W, 3], which is what image processors are made for."""
    grey = np.rint(image.pixels * 255).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _unit_rows(rows: torch.Tensor) -> Vectors:
    unit = torch.nn.functional.normalize(rows.float(), dim=-1)
    return np.asarray(unit.cpu().numpy(), np.float32)


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for at in range(0, len(items), _BATCH):
        yield items[at : at + _BATCH]


_BLANK = CxrImage(np.zeros((8, 8), np.float32), source_sha256="")
"""Shows how long a vector is: configurations do not agree on where they say it."""
