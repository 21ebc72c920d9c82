"""The text side of an encoder as LangChain's `Embeddings`, for its vector stores and retrievers."""

from langchain_core.embeddings import Embeddings

from encoders.base import ImageEncoder, embeds_texts
from rag.errors import UsageError


class EncoderEmbeddings(Embeddings):
    """Embeds texts with the encoder that embeds the images.

    Args:
        encoder: of images and texts.

    Raises:
        UsageError: it embeds images only.
    """

    def __init__(self, encoder: ImageEncoder) -> None:
        if not embeds_texts(encoder):
            raise UsageError(f"{encoder.encoder_id} embeds images only: LangChain gives it texts")
        self.encoder = encoder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A unit vector for each text; an empty text is a ValueError."""
        return [[float(value) for value in row] for row in self.encoder.embed_texts(texts)]

    def embed_query(self, text: str) -> list[float]:
        """The same for one text."""
        return self.embed_documents([text])[0]
