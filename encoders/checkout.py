"""Which commit computed a number."""

import subprocess
from pathlib import Path


def current_commit(file: Path = Path(__file__)) -> str | None:
    """The commit of the checkout that has a file, with a plus if it was changed; None elsewhere.

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
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
