"""Errors of an evaluation; each message says what to do.

    CxrRagError
    ├── SettingsError
    │   └── EvalUsageError     the command cannot be carried out as given (exit code 2)
    └── EvalDataError          a file holds what cannot be scored (exit code 3)
        ├── EvalLeakError      the studies scored and the training data overlap
        └── EvalMismatchError  two runs cannot be compared

`NotAvailableError` is no failure: a metric that lacks its weights or a package is skipped.
"""

from collections.abc import Sequence
from pathlib import Path

from encoders.tabular import printable
from rag.errors import CxrRagError, SettingsError

_MAX_LISTED = 20


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
    """Everything that is wrong with one file, to be reported at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problems: list[str] = []

    def add(self, where: str, reason: str) -> None:
        """Add one problem; ``where`` is "line 17" or the key of an entry."""
        self._problems.append(printable(f"{where}: {reason}"))

    def raise_if_any(self) -> None:
        """Raise an `EvalDataError` that names the first twenty problems and counts the rest."""
        if self._problems:
            raise EvalDataError(f"{self._path} cannot be scored:\n{bullet_list(self._problems)}")


def bullet_list(items: Sequence[str]) -> str:
    """Up to twenty items, one per line, and how many more there are."""
    lines = [f"  {item}" for item in items[:_MAX_LISTED]]
    if len(items) > _MAX_LISTED:
        lines.append(f"  ... and {len(items) - _MAX_LISTED} more")
    return "\n".join(lines)
