"""Several processes that train as one: rows of all ranks, with gradient.

Owns the gathering. With one process everything here returns what it was given.
"""

import torch
from torch import Tensor
from torch import distributed as dist


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(rows: Tensor) -> Tensor:
    """Rows [N, ...] of every rank, one after the other: [ranks * N, ...].

    The gradient flows back to the rank that a row came from, summed over all ranks; averaging over
    the ranks, as data parallel training does, then gives the gradient of one process.
    Every rank brings as many rows.
    """
    if count() == 1:
        return rows
    if not rows.requires_grad:
        parts = [torch.empty_like(rows) for _ in range(count())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)
    from torch.distributed.nn.functional import all_gather  # noqa: PLC0415 - slow to import

    return torch.cat(all_gather(rows.contiguous()))  # type: ignore[no-untyped-call]
