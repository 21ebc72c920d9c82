"""The trained model as the product's encoder: images and report texts to unit vectors.

Deterministic and on the CPU: an index and its queries must live in one space, whichever machine
made them. The image side is run by ONNX Runtime where it can be, else by PyTorch, which is decided
once, at loading. Both give the same vectors within float32's rounding (docs/encoders.md), so an
index and everything trained on an encoder's vectors and features belong to the weights.
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
    """What the image side gives.

    Attributes:
        vectors: float32 [1, dim], of norm 1.
        features: float32 [1, F].
        maps: of findings, log-odds float32 [1, findings, h, w]; no findings where the model has
            none.
    """

    vectors: Vectors
    features: Vectors
    maps: Vectors


ImageSide = Callable[[torch.Tensor], ImageOutput]
"""One normalised image float32 [1, channels, H, W]. Safe to call from many threads; the same image
gives the same bits."""

PIXELS, VECTORS, FEATURES, MAPS = "pixels", "vectors", "features", "maps"
"""What a graph's input and outputs are called."""

AGREEMENT = 1e-4
"""Largest cosine distance at which a graph is taken to be of a model: a hundred times what rounding
makes, far less than what other weights make."""

_TEXTS_AT_ONCE = 512
"""Bounds the memory; enough for repeated sentences to be encoded once."""


class EclipEncoder:
    """An `encoders.base.ImageTextEncoder` over an eCLIP model in evaluation mode.

    ``findings`` are what the encoder has maps of; empty where it has none. ``image_side`` runs the
    model's image side; PyTorch does unless it is given.
    """

    def __init__(
        self,
        model: EclipModel,
        *,
        transform: EvalTransform,
        encoder_id: str,
        image_side: ImageSide | None = None,
    ) -> None:
        self._model = model
        self._image_side = image_side or in_torch(model)
        self._transform = transform
        self.encoder_id = encoder_id
        self.preprocess_hash = transform.hash
        self.dim = model.config.dim
        self.findings = model.config.findings

    def embed_images(self, images: Sequence[CxrImage]) -> NDArray[np.float32]:
        """Images to float32 [N, dim], rows of norm 1.

        One image at a time: its vector cannot depend on the others. To embed many images, call from
        several threads, as `encoders.embed_files` does.
        """
        vectors = np.empty((len(images), self.dim), dtype=np.float32)
        for row, image in enumerate(images):
            vectors[row] = self.outputs(image).vectors[0]
        return vectors

    def outputs(self, image: CxrImage) -> ImageOutput:
        """Vector, features and finding maps of an image, from one pass."""
        return self._image_side(self._transform(image).unsqueeze(0))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts (reports or single sentences) to float32 [N, dim], rows of norm 1.

        Raises:
            ValueError: a text is empty.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for at in range(0, len(texts), _TEXTS_AT_ONCE):
            prepared = self._model.prepare_texts(texts[at : at + _TEXTS_AT_ONCE])
            vectors[at : at + _TEXTS_AT_ONCE] = self._model.encode_text(prepared).numpy()
        return vectors


class EclipEnsemble(EclipEncoder):
    """Several eCLIP models as one encoder: a similarity is the mean of theirs.

    Their vectors lie side by side. Features and finding maps are the first one's.

    Args:
        members: of equal preprocessing.
        encoder_id: as of an `EclipEncoder`.
    """

    def __init__(self, members: Sequence[EclipEncoder], *, encoder_id: str) -> None:
        first, *others = members
        if any(other.preprocess_hash != first.preprocess_hash for other in others):
            raise EncoderError(f"the members of {encoder_id} do not preprocess images alike")
        self._members = members
        self._image_side = _side_by_side([member._image_side for member in members])
        self._transform = first._transform
        self.encoder_id = encoder_id
        self.preprocess_hash = first.preprocess_hash
        self.dim = sum(member.dim for member in members)
        self.findings = first.findings

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As an `EclipEncoder`'s."""
        return _joined([member.embed_texts(texts) for member in self._members])


def _side_by_side(sides: Sequence[ImageSide]) -> ImageSide:
    """Vectors of all; features and finding maps of the first."""

    def run(pixels: torch.Tensor) -> ImageOutput:
        given = [side(pixels) for side in sides]
        return given[0]._replace(vectors=_joined([each.vectors for each in given]))

    return run


def _joined(vectors: Sequence[Vectors]) -> Vectors:
    """Unit vectors [N, dim] of each member to float32 [N, sum of dims], rows of norm 1."""
    return np.concatenate(vectors, 1) / np.float32(np.sqrt(len(vectors)))


def load_encoder(folder: Path = SHIPPED_ENCODER, *, backend: str = "auto") -> EclipEncoder:
    """The encoder of a model folder; "auto" runs in ONNX Runtime where it can, "torch" does not.

    The ``config.json`` of an ensemble lists the folders of its ``members`` beside it, in order.

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
            folders = [folder / each for each in (first, *others)]
        except (KeyError, TypeError, ValueError) as error:
            raise EncoderError(f"{folder / CONFIG} needs a name and a list of members") from error
        members = [load_encoder(each, backend=backend) for each in folders]
        ids = "".join(member.encoder_id for member in members)
        digest = hashlib.sha256(ids.encode()).hexdigest()[:12]
        return EclipEnsemble(members, encoder_id=f"{name}@{digest}")
    model, transform = load_pretrained(folder)
    name = f"{model.config.name}@{content_hash(folder)}"
    shape = (1, transform.channels, transform.size, transform.size)
    fast = image_side(model, folder, shape=shape) if backend == "auto" else None
    return EclipEncoder(model, transform=transform, encoder_id=name, image_side=fast)


def image_side(model: EclipModel, folder: Path, *, shape: tuple[int, ...]) -> ImageSide:
    """The fastest way to run a folder's model, on images of a shape, that gives what PyTorch gives.

    Never fails: where ONNX Runtime does not do, the reason is logged and PyTorch runs.
    """
    eager = in_torch(model)
    path = folder / GRAPH
    if not path.is_file():
        logger.info("no %s beside the weights (docs/training.md): PyTorch runs, slower", GRAPH)
        return eager
    try:
        fast = in_onnx_runtime(path)
        distance = _distance(fast, eager, shape)
    except Exception as error:  # noqa: BLE001 - a native library: it has no class of errors
        logger.warning("ONNX Runtime cannot run %s (%s): PyTorch runs, slower", path, error)
        return eager
    if not distance <= AGREEMENT:  # also what is not a number
        logger.warning(
            "%s is not of the weights beside it (cosine distance %.2g): PyTorch runs, slower; "
            "make it again with `python -m encoders.eclip.onnx_export %s`",
            path,
            distance,
            folder,
        )
        return eager
    return fast


def in_torch(model: EclipModel) -> ImageSide:
    """Eager PyTorch."""

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> ImageOutput:
        if model.finding_maps is None:
            features, maps = model.image_features(pixels), pixels.new_zeros(len(pixels), 0, 1, 1)
        else:
            features, maps = model.features_and_maps(pixels)
        return ImageOutput(model.project_image(features).numpy(), features.numpy(), maps.numpy())

    return run


def in_onnx_runtime(path: Path) -> ImageSide:
    """ONNX Runtime, on the caller's thread: many images are many threads' work, and none waits.

    Raises:
        Exception: the package is missing or broken, or the graph cannot be read.
    """
    import onnxruntime  # noqa: PLC0415 - only where there is a graph

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised as well
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    without_maps = np.zeros((1, 0, 1, 1), np.float32)

    def run(pixels: torch.Tensor) -> ImageOutput:
        image = np.ascontiguousarray(pixels.numpy())
        given = dict(zip(outputs, session.run(outputs, {PIXELS: image}), strict=True))
        return ImageOutput(given[VECTORS], given[FEATURES], given.get(MAPS, without_maps))

    return run


def _distance(one: ImageSide, other: ImageSide, shape: tuple[int, ...]) -> float:
    """Cosine distance of what two ways make of an image of noise, by vector, features or maps."""

    def distance(a: Vectors, b: Vectors) -> float:
        if a.shape != b.shape:
            return 2.0
        return 1 - float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))

    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 4 - 2
    pairs = zip(one(image), other(image), strict=True)
    return max(distance(a, b) for a, b in pairs if a.size or b.size)
