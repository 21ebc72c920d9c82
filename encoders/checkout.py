"""The commit that a result was computed with."""

import subprocess
from pathlib import Path


def current_commit(file: Path = Path(__file__)) -> str | None:
    """The commit of the checkout that tracks a file, with "+" if modified; None outside of one.

    An installed package can lie below a checkout of something else, which does not track it.
    """

    def git(*arguments: str) -> str:
        result = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", *arguments],  # noqa: S607 - the user's own git
            cwd=file.parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return result.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
