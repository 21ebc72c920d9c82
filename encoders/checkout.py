"""Which commit computed a number."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Commit(NamedTuple):
    """A commit, and whether tracked files were changed since."""

    hash: str
    changed: bool


def current_commit(file: Path = Path(__file__)) -> Commit | None:
    """The commit of the checkout that has a file; None elsewhere.

    An installed package can lie below a checkout of something else, which does not track it.
    """

    def git(*words: str) -> str:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", *words],  # noqa: S607 - the user's own git
            cwd=file.parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return Commit(git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "-uno")))
    except (OSError, subprocess.SubprocessError):
        return None
