"""Which of several files with the same name a path means (most of CheXpert is view1_frontal.jpg).

Compares paths only, and opens no file.
"""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path


def best_path_matches(path: Path, files: Sequence[Path]) -> list[Path]:
    """The files that share the most parent folders with the path, counted from the file upwards.

    >>> files = [Path("a/p1/x.png"), Path("a/p2/x.png")]
    >>> best_path_matches(Path("elsewhere/p2/x.png"), files) == files[1:]
    True
    >>> best_path_matches(Path("x.png"), files) == files
    True
    """
    shared = [_shared_folders(path, file) for file in files]
    most = max(shared, default=0)
    return [file for file, count in zip(files, shared, strict=True) if count == most]


def _shared_folders(one: Path, other: Path) -> int:
    pairs = zip(reversed(one.parent.parts), reversed(other.parent.parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
