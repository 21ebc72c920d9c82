"""Which of several files with one name a path means (CheXpert calls nearly all view1_frontal.jpg).

Knows paths only, and opens no file.
"""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path


def best_path_matches(path: Path, files: Sequence[Path]) -> list[Path]:
    """The files whose folders agree with the path's for longest, counted from the file upwards.

    Returns:
        One if the folders tell the files apart, several if not, none of none.

    >>> there = [Path("a/p1/x.png"), Path("a/p2/x.png")]
    >>> best_path_matches(Path("elsewhere/p2/x.png"), there) == there[1:]
    True
    >>> best_path_matches(Path("x.png"), there) == there
    True
    """
    shared = [_shared_folders(path, file) for file in files]
    return [file for file, count in zip(files, shared, strict=True) if count == max(shared)]


def _shared_folders(one: Path, other: Path) -> int:
    pairs = zip(reversed(one.parent.parts), reversed(other.parent.parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
