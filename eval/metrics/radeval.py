"""Reaches into the radeval package for the scorers that only it can run on today's transformers.

radeval 2.2.1 (MIT) is optional: ``pip install --no-deps radeval==2.2.1``. Its own ``__init__``
imports every scorer it has, and its vendored code asks for the package by an older name; so single
modules are imported, without running ``__init__``.
"""

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from eval.errors import NotAvailableError
from eval.io.studies import Pair
from eval.metrics.base import SufficientStats, mean_rows

_INSTALL = "pip install --no-deps radeval==2.2.1"


def radeval_module(name: str, *, needs: str = "") -> Any:
    """A module of ``radeval.metrics``.

    Args:
        name: e.g. "radgraph".
        needs: other packages the module imports, for the message.

    Raises:
        NotAvailableError: says what to install.
    """
    if "radeval" not in sys.modules:
        spec = find_spec("radeval")
        if spec is None or not spec.submodule_search_locations:
            raise NotAvailableError(f"{_INSTALL} {needs}".strip())
        package = ModuleType("radeval")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["radeval"] = package
    sys.modules.setdefault("RadEval", sys.modules["radeval"])
    try:
        with warnings.catch_warnings():  # its modules change the filters of everybody
            return importlib.import_module(f"radeval.metrics.{name}")
    except ImportError as error:
        raise NotAvailableError(f"{_INSTALL} {needs}".strip() + f" ({error})") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The scorers print, and leave files open; a command's output is its result."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def scores_of_drafted(
    pairs: Sequence[Pair], scorer: Callable[[list[str], list[str]], Sequence[float | None]]
) -> SufficientStats:
    """One score per pair, 0 where a text is missing or the scorer has no answer: float64 [N, 2].

    Args:
        pairs: N of them.
        scorer: drafts and references of those that have both -> their scores.
    """
    values = np.zeros((len(pairs), 1))
    at = [i for i, pair in enumerate(pairs) if pair.draft.strip() and pair.reference.strip()]
    if at:
        found = scorer([pairs[i].draft for i in at], [pairs[i].reference for i in at])
        values[at, 0] = [value or 0.0 for value in found]
    return mean_rows(values)
