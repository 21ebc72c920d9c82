"""BERTScore, and CheXbert's labels and report vectors.

BERTScore is implemented here because the reference package requires matplotlib; docs/metrics.md has
the agreement with it.

Weights are never downloaded: they are looked for in the folder of models, then in the cache of
huggingface_hub. A metric's version includes a hash of its weights.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.errors import EvalDataError, NotAvailableError
from eval.metrics.base import (
    Direction,
    MeanMetric,
    MetricGroup,
    Setup,
    SufficientStats,
    mean_measure,
)
from eval.metrics.findings import LabelF1, label_counts, label_measures, positive_labels
from eval.studies import Pair

if TYPE_CHECKING:
    import torch

_WEIGHTS_SUFFIXES = {".safetensors", ".bin", ".pth", ".th", ".pt"}
_HASHED_BYTES = 1 << 20
"""At either end of a weights file."""


def local_model(repository: str, *, models: Path) -> Path:
    """Local folder of a Hugging Face repository, in ``models`` by its name without the owner.

    Raises:
        NotAvailableError: says what to put where.
    """
    folder = models / repository.rpartition("/")[2]
    if (folder / "config.json").exists():
        return folder
    cached = _cached_snapshot(repository)
    if cached is None or not (cached / "config.json").exists():
        raise NotAvailableError(
            f"put {repository} into {folder} (hf download {repository} --local-dir {folder})"
        )
    return cached


def local_file(name: str, *, source: str, models: Path) -> Path:
    """One file in the folder of models.

    Raises:
        NotAvailableError: says what to put where.
    """
    path = models / name
    if not path.exists():
        raise NotAvailableError(f"put {source} at {path}")
    return path


def weights_id(*paths: Path) -> str:
    """Hash of the sizes and both ends of weights files, enough to tell versions apart."""
    digest = hashlib.sha256()
    for path in paths:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in (file for file in files if file.suffix in _WEIGHTS_SUFFIXES):
            size = file.stat().st_size
            digest.update(f"{file.name} {size} ".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_HASHED_BYTES))
                stream.seek(max(size - _HASHED_BYTES, 0))
                digest.update(stream.read(_HASHED_BYTES))
    return digest.hexdigest()[:8]


def _cached_snapshot(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        return None


BERTSCORE_BASELINE = 0.8473319
"""F of unrelated English sentences at this layer (bert-score 0.3.13, rescale_baseline/en)."""

_ROBERTA, _LAYER = "distilroberta-base", 5  # as in ReXrank: rescaled, no idf
_WORST_BERTSCORE = (0.0 - BERTSCORE_BASELINE) / (1 - BERTSCORE_BASELINE)
"""F = 0, rescaled: the score of a missing draft, as in bert-score."""

_MAX_TOKENS = 512


class BertScore(MeanMetric):
    """F of greedily matched tokens."""

    key = "bertscore"
    measures = (mean_measure("BERTScore", Direction.HIGHER, column=0, low=_WORST_BERTSCORE),)
    width = 2
    batch_size = 64

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._folder = local_model(_ROBERTA, models=setup.models)
        self.version = f"1-{weights_id(self._folder)}"

    def score_pair(self, pair: Pair) -> tuple[float]:
        """Rescaled F."""
        return (self.f1(pair.draft, pair.reference),)

    def f1(self, draft: str, reference: str) -> float:
        """Rescaled F; an empty text has F = 0."""
        if not draft.strip() or not reference.strip():
            return _WORST_BERTSCORE
        ours, theirs = embed_tokens(self._folder, draft), embed_tokens(self._folder, reference)
        similarity = (ours @ theirs.T).numpy()
        # start and end token can be matched but are not scored
        precision = float(similarity.max(axis=1)[1:-1].mean())
        recall = float(similarity.max(axis=0)[1:-1].mean())
        total = precision + recall
        f1 = 2 * precision * recall / total if total else 0.0
        return (f1 - BERTSCORE_BASELINE) / (1 - BERTSCORE_BASELINE)


@lru_cache(maxsize=4096)
def embed_tokens(folder: Path, text: str) -> "torch.Tensor":
    """Unit vectors of a text's tokens, start and end token included: float32 [P, D]."""
    import torch  # noqa: PLC0415

    tokenizer, model = _load_roberta(folder)
    tokens = tokenizer(text.strip(), truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**tokens, output_hidden_states=True).hidden_states[_LAYER][0]
    return torch.nn.functional.normalize(hidden, dim=-1)


@lru_cache(maxsize=1)
def _load_roberta(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(folder, add_prefix_space=True)
    return tokenizer, AutoModel.from_pretrained(folder).eval()


CHEXBERT_LABELS = (
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
    "No Finding",
)
"""CheXbert's heads in their order; the last has two classes, the others four."""

CHEXBERT_STATES = ("absent", "positive", "negative", "uncertain")
_CHECKPOINT = "chexbert.pth"


class Chexbert(MetricGroup):
    """F1 of CheXbert's labels, and the cosine of its report vectors."""

    key = "chexbert"
    measures = (
        *label_measures("CheXbert ", CHEXBERT_LABELS),
        mean_measure("CheXbert similarity", Direction.HIGHER, column=LabelF1.width, low=-1.0),
    )
    width = LabelF1.width + 2
    batch_size = 64

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        source = f"{_CHECKPOINT} of StanfordAIMI/RRG_scorers (1.3 GB, Stanford academic licence)"
        self._checkpoint = local_file(_CHECKPOINT, source=source, models=setup.models)
        self._base = local_model("bert-base-uncased", models=setup.models)
        self.version = f"1-{weights_id(self._checkpoint)}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 86], counts as for our labeller, then the similarity."""
        rows = np.ones((len(pairs), self.width))
        for row, pair in zip(rows, pairs, strict=True):
            labels = [
                positive_labels(self.labels(t), CHEXBERT_LABELS)
                for t in (pair.reference, pair.draft)
            ]
            row[:-1] = *label_counts(*labels), self.similarity(pair.draft, pair.reference)
        return rows

    def labels(self, text: str) -> dict[str, str]:
        """Labels that the text mentions."""
        if not text.strip():
            return {}
        classes = _predict(self._base, self._checkpoint, text)[0]
        return {
            name: CHEXBERT_STATES[c] for name, c in zip(CHEXBERT_LABELS, classes, strict=True) if c
        }

    def similarity(self, draft: str, reference: str) -> float:
        """Cosine of the report vectors; -1 if a text is empty."""
        if not draft.strip() or not reference.strip():
            return -1.0
        ours, theirs = (_predict(self._base, self._checkpoint, t)[1] for t in (draft, reference))
        norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
        return float(ours @ theirs / norms) if norms else 0.0


@lru_cache(maxsize=4096)
def _predict(base: Path, checkpoint: Path, text: str) -> tuple[tuple[int, ...], Any]:
    """Class of each head, and the [CLS] vector float32 [D]."""
    import torch  # noqa: PLC0415

    tokenizer, bert, heads = _load_chexbert(base, checkpoint)
    text = " ".join(text.split())
    tokens = tokenizer(text, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
    with torch.inference_mode():
        vector = bert(**tokens).last_hidden_state[:, 0]
        classes = tuple(int(head(vector).argmax()) for head in heads)
    return classes, vector[0].numpy()


@lru_cache(maxsize=1)
def _load_chexbert(base: Path, checkpoint: Path) -> tuple[Any, Any, Any]:
    """Tokenizer, BERT and fourteen linear heads."""
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoTokenizer, BertModel  # noqa: PLC0415

    bert = BertModel(AutoConfig.from_pretrained(base), add_pooling_layer=True)
    sizes = [len(CHEXBERT_STATES)] * (len(CHEXBERT_LABELS) - 1) + [2]
    heads = torch.nn.ModuleList(torch.nn.Linear(bert.config.hidden_size, n) for n in sizes)
    model = torch.nn.ModuleDict({"bert": bert, "linear_heads": heads})
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state_dict"]
        state = {name.removeprefix("module."): value for name, value in saved.items()}
        state.pop("bert.embeddings.position_ids", None)  # a buffer of older versions
        model.load_state_dict(state)
    except (RuntimeError, KeyError, OSError, ValueError) as error:
        raise EvalDataError(f"{checkpoint} is not CheXbert's checkpoint: {error}") from error
    model.eval()
    return AutoTokenizer.from_pretrained(base), bert, heads
