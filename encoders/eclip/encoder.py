"""The trained model as an encoder: images and report texts to unit vectors.

Deterministic and on the CPU, so that an index and its queries share one space whichever machine
made them. Images are encoded by ONNX Runtime if possible, otherwise by PyTorch; this is decided at
loading. Both give the same vectors up to float32 rounding (docs/encoders.md), so vectors belong to
the weights and not to the backend.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.base import CxrImage
from encoders.eclip.model import CONFIG, GRAPH, EclipModel, content_hash, load_pretrained
from encoders.packaged_weights import SHIPPED_ENCODER, EncoderError, read_json
from encoders.preprocess import EvalTransform

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]


class ImageOutput(NamedTuple):
    """What the model makes of one image.

    Attributes:
        vectors: float32 [1, dim], of norm 1.
        features: float32 [1, F], before the projection.
        maps: logits of the finding maps, float32 [1, findings, h, w]; 0 findings without maps.
    """

    vectors: Vectors
    features: Vectors
    maps: Vectors


ImageBackend = Callable[[torch.Tensor], ImageOutput]
"""Runs the model on one normalised image float32 [1, channels, H, W]. Thread-safe and deterministic
to the bit."""

PIXELS, VECTORS, FEATURES, MAPS = "pixels", "vectors", "features", "maps"
"""Names of a graph's input and outputs."""

_MAX_GRAPH_DISTANCE = 1e-4
"""Largest cosine distance between a graph's output and the model's: a hundred times that of
rounding, far less than that of other weights."""

_TEXT_BATCH_SIZE = 512
"""Bounds the memory, yet large enough to encode repeated sentences once."""


class EclipEncoder:
    """An `encoders.base.ImageTextEncoder` over an eCLIP model in evaluation mode.

    ``findings`` are those it has maps of, possibly none.
    """

    def __init__(
        self,
        model: EclipModel,
        *,
        transform: EvalTransform,
        encoder_id: str,
        image_backend: ImageBackend | None = None,
    ) -> None:
        self._model = model
        self._image_backend = image_backend or torch_backend(model)
        self._transform = transform
        self.encoder_id = encoder_id
        self.preprocess_hash = transform.hash
        self.dim = model.config.dim
        self.findings = model.config.findings

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        """Images to float32 [N, dim], rows of norm 1.

        One at a time, so that a vector cannot depend on other images. For many images, call it from
        several threads, as `encoders.embed_files` does.
        """
        vectors = np.empty((len(images), self.dim), dtype=np.float32)
        for row, image in enumerate(images):
            vectors[row] = self.outputs(image).vectors[0]
        return vectors

    def outputs(self, image: CxrImage) -> ImageOutput:
        """Vector, features and finding maps of an image, from one pass."""
        return self._image_backend(self._transform(image).unsqueeze(0))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Reports or single sentences to float32 [N, dim], rows of norm 1.

        Raises:
            ValueError: a text is empty.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _TEXT_BATCH_SIZE):
            batch = slice(start, start + _TEXT_BATCH_SIZE)
            prepared = self._model.prepare_texts(texts[batch])
            vectors[batch] = self._model.encode_text(prepared).numpy()
        return vectors


class EclipEnsemble(EclipEncoder):
    """Several eCLIP models of equal preprocessing as one encoder.

    Vectors are concatenated, so that a similarity is the mean of the members'. Features and finding
    maps are the first member's.
    """

    def __init__(self, members: Sequence[EclipEncoder], *, encoder_id: str) -> None:
        first, *others = members
        if any(other.preprocess_hash != first.preprocess_hash for other in others):
            raise EncoderError(f"the members of {encoder_id} do not preprocess images alike")
        self._members = members
        self._image_backend = self._run_members
        self._transform = first._transform
        self.encoder_id = encoder_id
        self.preprocess_hash = first.preprocess_hash
        self.dim = sum(member.dim for member in members)
        self.findings = first.findings

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `EclipEncoder.embed_texts`."""
        return _concatenate([member.embed_texts(texts) for member in self._members])

    def _run_members(self, pixels: torch.Tensor) -> ImageOutput:
        outputs = [member._image_backend(pixels) for member in self._members]
        return outputs[0]._replace(vectors=_concatenate([output.vectors for output in outputs]))


def _concatenate(vectors: Sequence[Vectors]) -> Vectors:
    """Unit vectors [N, dim] of each member to float32 [N, sum of dims], rows of norm 1."""
    return np.concatenate(vectors, 1) / np.float32(np.sqrt(len(vectors)))


def load_encoder(folder: Path = SHIPPED_ENCODER, *, backend: str = "auto") -> EclipEncoder:
    """The encoder of a model folder, or of an ensemble's (docs/training.md, "Towers").

    Args:
        folder: of the model.
        backend: "auto" for ONNX Runtime if possible, "torch" for PyTorch.

    Raises:
        EncoderError: a file is missing, damaged or does not fit, or a package with frozen weights
            is not installed (the message says which, and how to install it).
    """
    if not folder.is_dir():
        raise EncoderError(f"no model folder at {folder}; train one, or restore the shipped one")
    config = read_json(folder / CONFIG)
    if "members" in config:
        try:
            (first, *others), name = config["members"], config["name"]
            folders = [folder / member for member in (first, *others)]
        except (KeyError, TypeError, ValueError) as error:
            raise EncoderError(f"{folder / CONFIG} needs a name and a list of members") from error
        members = [load_encoder(member, backend=backend) for member in folders]
        ids = "".join(member.encoder_id for member in members)
        digest = hashlib.sha256(ids.encode()).hexdigest()[:12]
        return EclipEnsemble(members, encoder_id=f"{name}@{digest}")
    model, transform = load_pretrained(folder)
    return EclipEncoder(
        model,
        transform=transform,
        encoder_id=f"{model.config.name}@{content_hash(folder)}",
        image_backend=_fastest_backend(model, folder, transform) if backend == "auto" else None,
    )


def _fastest_backend(model: EclipModel, folder: Path, transform: EvalTransform) -> ImageBackend:
    """ONNX Runtime if it gives what PyTorch gives; otherwise PyTorch, and the reason is logged."""
    eager = torch_backend(model)
    path = folder / GRAPH
    if not path.is_file():
        logger.info("no %s in the model folder (docs/training.md): using PyTorch, slower", GRAPH)
        return eager
    try:
        fast = onnx_backend(path)
        distance = _max_distance(fast, eager, transform)
    except Exception as error:  # noqa: BLE001 - a native library: it has no class of errors
        logger.warning("ONNX Runtime cannot run %s (%s): using PyTorch, slower", path, error)
        return eager
    if not distance <= _MAX_GRAPH_DISTANCE:  # also NaN
        logger.warning(
            "%s does not match the weights beside it (cosine distance %.2g): using PyTorch, "
            "slower; write it again with `python -m encoders.eclip.onnx_export %s`",
            path,
            distance,
            folder,
        )
        return eager
    return fast


def torch_backend(model: EclipModel) -> ImageBackend:
    """Eager PyTorch."""

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> ImageOutput:
        if model.finding_maps is None:
            features, maps = model.image_features(pixels), pixels.new_zeros(len(pixels), 0, 1, 1)
        else:
            features, maps = model.features_and_maps(pixels)
        return ImageOutput(model.project_image(features).numpy(), features.numpy(), maps.numpy())

    return run


def onnx_backend(path: Path) -> ImageBackend:
    """ONNX Runtime on the caller's thread, so that many images can run in as many threads.

    Raises:
        Exception: the package is missing or broken, or the graph cannot be read.
    """
    import onnxruntime  # noqa: PLC0415 - only where there is a graph

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised as well
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    no_maps = np.zeros((1, 0, 1, 1), np.float32)

    def run(pixels: torch.Tensor) -> ImageOutput:
        image = np.ascontiguousarray(pixels.numpy())
        outputs = dict(zip(names, session.run(names, {PIXELS: image}), strict=True))
        return ImageOutput(outputs[VECTORS], outputs[FEATURES], outputs.get(MAPS, no_maps))

    return run


def _max_distance(one: ImageBackend, other: ImageBackend, transform: EvalTransform) -> float:
    """Largest cosine distance between two backends' outputs for an image of noise."""

    def distance(a: Vectors, b: Vectors) -> float:
        if a.shape != b.shape:
            return 2.0
        return 1 - float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))

    shape = (1, transform.channels, transform.size, transform.size)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 4 - 2
    pairs = zip(one(image), other(image), strict=True)
    return max(distance(a, b) for a, b in pairs if a.size or b.size)
