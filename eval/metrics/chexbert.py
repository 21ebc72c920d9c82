"""CheXbert: F1 of the labels that a BERT reads, and the cosine of its report vectors."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from eval.errors import EvalDataError
from eval.io.studies import Pair
from eval.metrics.base import (
    Card,
    Direction,
    Measure,
    MetricGroup,
    Setup,
    SufficientStats,
    mean_measure,
)
from eval.metrics.labels import FIVE, MAPPINGS, macro_f1, micro_f1
from eval.metrics.weights import local_file, local_model, weights_id

NAMES = (
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
"""CheXbert's heads in order; the last has two classes, the others four."""

CLASSES = ("absent", "positive", "negative", "uncertain")
CHECKPOINT, BASE = "chexbert.pth", "bert-base-uncased"
_LONGEST = 512
_LABELS = len(MAPPINGS) * len(NAMES) * 3
_Combine = Callable[[SufficientStats], SufficientStats]


def _measures() -> tuple[Measure, ...]:
    kinds = (("micro", micro_f1), ("macro", macro_f1))
    found: list[Measure] = []
    for at, mapping in enumerate(MAPPINGS):
        for size, labels in ((14, NAMES), (5, FIVE)):
            for mean, make in kinds:
                combine = make(at, labels, names=NAMES)
                name = f"CheXbert {mean} F1-{size} ({mapping})"
                single = mean == "micro"
                found.append(
                    Measure(name, Direction.HIGHER, 0.0, 1.0, _first(combine), single=single)
                )
    similarity = mean_measure("CheXbert similarity", Direction.HIGHER, column=_LABELS, low=-1.0)
    return (*found, similarity)


def _first(combine: _Combine) -> _Combine:
    return lambda rows: combine(rows[..., :_LABELS])


MEASURES = _measures()


class Chexbert(MetricGroup):
    """See the card."""

    key = "chexbert"
    measures = MEASURES
    width = _LABELS + 2
    batch = 64
    card = Card(
        title="CheXbert F1-14, F1-5 and similarity",
        formula="F1 = 2TP / (2TP + FP + FN), micro and macro as for our labeller; similarity = "
        "cosine of the two texts' [CLS] vectors, mean over studies",
        words="none: BERT's word pieces (uncased), blanks collapsed, cut at 512",
        convention="absent = negative; u=1 counts 'uncertain' as positive, u=0 as negative; a "
        "missing draft has no labels and similarity -1; the model is in evaluation mode",
        source="Smit et al., EMNLP 2020; weights chexbert.pth of StanfordAIMI/RRG_scorers",
    )

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        source = f"{CHECKPOINT} of StanfordAIMI/RRG_scorers (1.3 GB, Stanford academic licence)"
        self._checkpoint = local_file(CHECKPOINT, source=source, models=setup.models)
        self._base = local_model(BASE, models=setup.models)
        self.version = f"1-{weights_id(self._checkpoint)}"

    def score(self, pairs: Sequence[Pair]) -> SufficientStats:
        """One row per pair: float64 [N, 86], counts as for our labeller, then the similarity."""
        rows = np.zeros((len(pairs), self.width))
        for row, pair in zip(rows, pairs, strict=True):
            reference, draft = self._marks(pair.reference), self._marks(pair.draft)
            counts = np.stack([reference & draft, ~reference & draft, reference & ~draft], axis=-1)
            row[:_LABELS] = counts.reshape(-1)
            row[_LABELS] = self.similarity(pair.draft, pair.reference)
        rows[:, _LABELS + 1] = 1
        return rows

    def labels(self, text: str) -> dict[str, str]:
        """Labels that the text mentions, by CheXpert's names; none for an empty text."""
        if not text.strip():
            return {}
        classes = _read(self._base, self._checkpoint, text)[0]
        return {name: CLASSES[c] for name, c in zip(NAMES, classes, strict=True) if c}

    def similarity(self, draft: str, reference: str) -> float:
        """Cosine of the report vectors; -1 if a text is empty."""
        if not draft.strip() or not reference.strip():
            return -1.0
        ours, theirs = (_read(self._base, self._checkpoint, t)[1] for t in (draft, reference))
        norms = np.linalg.norm(ours) * np.linalg.norm(theirs)
        return float(ours @ theirs / norms) if norms else 0.0

    def _marks(self, text: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        found = self.labels(text)
        return np.array([[found.get(n) in counts for n in NAMES] for counts in MAPPINGS.values()])


@lru_cache(maxsize=4096)
def _read(base: Path, checkpoint: Path, text: str) -> tuple[tuple[int, ...], Any]:
    """Class of each head, and the [CLS] vector float32 [D]."""
    import torch  # noqa: PLC0415

    tokenizer, bert, heads = _model(base, checkpoint)
    plain = " ".join(text.split())
    pieces = tokenizer(plain, truncation=True, max_length=_LONGEST, return_tensors="pt")
    with torch.inference_mode():
        vector = bert(**pieces).last_hidden_state[:, 0]
        classes = tuple(int(head(vector).argmax()) for head in heads)
    return classes, vector[0].numpy()


@lru_cache(maxsize=1)
def _model(base: Path, checkpoint: Path) -> tuple[Any, Any, Any]:
    """A BERT and fourteen linear heads, as in the checkpoint."""
    import torch  # noqa: PLC0415
    from transformers import AutoConfig, AutoTokenizer, BertModel  # noqa: PLC0415

    bert = BertModel(AutoConfig.from_pretrained(base), add_pooling_layer=True)
    width = bert.config.hidden_size
    sizes = [len(CLASSES)] * (len(NAMES) - 1) + [2]
    whole = torch.nn.ModuleDict(
        {
            "bert": bert,
            "linear_heads": torch.nn.ModuleList(torch.nn.Linear(width, n) for n in sizes),
        }
    )
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state_dict"]
        state = {name.removeprefix("module."): value for name, value in saved.items()}
        # older checkpoints carry a buffer that BERT computes now
        state.pop("bert.embeddings.position_ids", None)
        whole.load_state_dict(state)
    except (RuntimeError, KeyError, OSError, ValueError) as error:
        raise EvalDataError(f"{checkpoint} is not CheXbert's checkpoint: {error}") from error
    whole.eval()
    return AutoTokenizer.from_pretrained(base), whole["bert"], whole["linear_heads"]
