"""Small trained parts that belong to one encoder and lie in its folder.

Each is a safetensors file with facts in its header; `rag.screening.finding_head` and
`rag.screening.out_of_distribution` say what is in theirs.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from rag.errors import CxrRagError

TensorOf = Callable[[str], NDArray[Any]]


@contextmanager
def opened(
    path: Path, *, key: str, error: type[CxrRagError]
) -> Iterator[tuple[dict[str, Any], TensorOf]]:
    """Facts and tensors of a part.

    Args:
        path: the file.
        key: of the facts in its header.
        error: raised where the file is damaged, or lacks what the block asks for.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, framework="numpy") as tensors:
            yield json.loads((tensors.metadata() or {})[key]), tensors.get_tensor
    except (SafetensorError, OSError, KeyError, ValueError) as problem:
        raise error(f"{path} is damaged ({problem!r}); restore it") from problem


def write(path: Path, tensors: Mapping[str, NDArray[Any]], *, key: str, facts: Any) -> None:
    """Write a part, beside and renamed."""
    from safetensors.numpy import save_file  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    save_file(dict(tensors), beside, metadata={key: json.dumps(facts)})
    beside.replace(path)
