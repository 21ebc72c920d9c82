"""Settings -> the parts of the product, wired together. The one place that knows them all."""

from encoders.base import ImageTextEncoder
from rag.settings import Settings


def load_encoder(settings: Settings) -> ImageTextEncoder:
    """The encoder that ships with the project, or the one in ``settings.encoder``."""
    from encoders.eclip import load_encoder as load  # noqa: PLC0415 - torch takes seconds

    return load(settings.encoder)
