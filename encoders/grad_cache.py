"""Less memory for more time: activations that are computed again in the backward pass.

Owns the two uses of it: a block of a tower at a time, and some rows of a batch at a time. Both give
the gradient of the plain pass; the random draws and the running statistics are those of one pass.

Source: Chen et al., arXiv 1604.06174. By rows it is GradCache (Gao et al., arXiv 2101.06983): the
loss is over the whole batch, whatever number of rows the towers read at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(
    module: nn.Module, call: Callable[..., Tensor], rows: Tensor | dict[str, Tensor]
) -> Tensor:
    """``call(rows)``, of which only the input is kept for the backward pass.

    Args:
        module: whose batch statistics ``call`` updates; the second pass leaves them alone.
        call: what is done.
        rows: its input.
    """
    if not torch.is_grad_enabled():
        return call(rows)
    result: Tensor = checkpoint(
        call,
        rows,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), statistics_stay(module)),
    )
    return result


def in_chunks(
    module: nn.Module,
    call: Callable[[Any], Tensor],
    rows: Tensor | dict[str, Tensor],
    *,
    at_once: int,
) -> Tensor:
    """``call`` on all rows, ``at_once`` at a time if that is not 0; outputs [N, ...].

    Batch statistics are then those of the parts, as with more processes.
    """
    count = len(rows) if isinstance(rows, Tensor) else len(next(iter(rows.values())))
    if not at_once or count <= at_once:
        return call(rows)
    parts = []
    for at in range(0, count, at_once):
        some = slice(at, at + at_once)
        part = (
            rows[some]
            if isinstance(rows, Tensor)
            else {name: value[some] for name, value in rows.items()}
        )
        parts.append(recomputed(module, call, part))
    return torch.cat(parts)


@contextmanager
def statistics_stay(module: nn.Module) -> Iterator[None]:
    """Within this, training passes leave a module's running statistics alone."""
    norms = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(norms, usual, strict=True):
            layer.momentum = momentum
