"""The eCLIP model: two towers, two projections, and the expert parts around them.

`load_encoder` is what the rest of the product uses. It is resolved at first use, so that importing
this package does not wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from encoders.eclip.encoder import EclipEncoder, load_encoder

__all__ = ["EclipEncoder", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from encoders.eclip import encoder  # noqa: PLC0415 - the point of this function

        return getattr(encoder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
