"""Errors of an evaluation; each message says what to do.

    CxrRagError
    ├── SettingsError
    │   └── EvalUsageError     the command cannot be carried out as given (exit code 2)
    └── EvalDataError          a file holds what cannot be scored (exit code 3)
        ├── EvalLeakError      the studies scored and the training data overlap
        └── EvalMismatchError  two runs that cannot be compared

`NotAvailableError` is no failure: a metric needs weights or a program that is not installed.
"""

from collections.abc import Sequence
from pathlib import Path

from encoders.tabular import printable
from rag.errors import CxrRagError, SettingsError

_SHOWN = 20


class EvalUsageError(SettingsError):
    """The command cannot be carried out as given."""


class EvalDataError(CxrRagError):
    """A file holds what cannot be scored."""


class EvalLeakError(EvalDataError):
    """The studies scored and the training data overlap."""


class EvalMismatchError(EvalDataError):
    """Two runs cannot be compared."""


class NotAvailableError(Exception):
    """A metric cannot run here; the message says what to install."""


class Problems:
    """Collects everything that is wrong with one file, to report it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[str] = []

    def add(self, where: str, reason: str) -> None:
        """Note one problem; ``where`` is "line 17" or the key of an entry."""
        self._found.append(printable(f"{where}: {reason}"))

    def raise_if_any(self) -> None:
        """Raise everything that was noted.

        Raises:
            EvalDataError: names the first twenty problems and counts the rest.
        """
        if self._found:
            raise EvalDataError(f"{self._path} cannot be scored:\n{listed(self._found)}")


def listed(items: Sequence[str]) -> str:
    """Up to twenty items, one per line, and how many more there are."""
    shown = [f"  {item}" for item in items[:_SHOWN]]
    if len(items) > _SHOWN:
        shown.append(f"  ... and {len(items) - _SHOWN} more")
    return "\n".join(shown)
