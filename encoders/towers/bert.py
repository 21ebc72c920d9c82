"""BERT's forward pass over a table of tensors, for a frozen sentence encoder.

`transformers` has it too and takes seconds to import, most of what a single query takes. Names of
the tensors are those of a Hugging Face BertModel. Knows no tokenizer.

Source: Devlin et al. 2019, arXiv 1810.04805.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional


class Bert:
    """A frozen BERT. Texts of one length go through together, so that there is no padding.

    Args:
        tensors: weights by name.
        layers, heads, epsilon: of its configuration.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], *, layers: int, heads: int, epsilon: float
    ) -> None:
        self._tensors = tensors
        self._layers = layers
        self._heads = heads
        self._epsilon = epsilon

    def __call__(self, pieces: Tensor) -> Tensor:
        """Piece ids int64 [N, L] to hidden states float32 [N, L, width]."""
        words, places, kinds = (
            self._tensors[f"embeddings.{name}_embeddings.weight"]
            for name in ("word", "position", "token_type")
        )
        hidden = words[pieces] + kinds[0] + places[: pieces.shape[1]]
        hidden = self._normalise(hidden, "embeddings.LayerNorm")
        for number in range(self._layers):
            hidden = self._layer(hidden, f"encoder.layer.{number}.")
        return hidden

    def _layer(self, hidden: Tensor, at: str) -> Tensor:
        query, key, value = (
            self._linear(hidden, f"{at}attention.self.{name}")
            .view(*hidden.shape[:2], self._heads, -1)
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = self._linear(attended.transpose(1, 2).flatten(2), f"{at}attention.output.dense")
        hidden = self._normalise(hidden + attended, f"{at}attention.output.LayerNorm")
        inner = functional.gelu(self._linear(hidden, f"{at}intermediate.dense"))
        inner = self._linear(inner, f"{at}output.dense")
        return self._normalise(hidden + inner, f"{at}output.LayerNorm")

    def _linear(self, hidden: Tensor, at: str) -> Tensor:
        return functional.linear(hidden, self._tensors[f"{at}.weight"], self._tensors[f"{at}.bias"])

    def _normalise(self, hidden: Tensor, at: str) -> Tensor:
        weight, bias = self._tensors[f"{at}.weight"], self._tensors[f"{at}.bias"]
        return functional.layer_norm(hidden, weight.shape, weight, bias, self._epsilon)
