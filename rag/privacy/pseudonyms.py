"""Numbers and names in place of the real ones: the same for the same, and no way back.

Owns the key and what is derived from it (HMAC-SHA-256). With a key file the same patient gets the
same pseudonym in every run; whoever has the file can test guesses, so it is a secret like the
originals. Without one the key lives as long as the process.
"""

import hashlib
import hmac
import re
import secrets
import uuid
from datetime import date, timedelta
from pathlib import Path

from rag.atomic_io import disk_explained, swap_text
from rag.errors import CxrRagError

MOST_SHIFTED_DAYS = 5 * 365
_KEY = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})(.*)", re.DOTALL)


class KeyFileError(CxrRagError):
    """The file is no key of ours, or cannot be read."""


class Pseudonyms:
    """Derives pseudonyms from a key of 32 bytes; a random one by default."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)

    @classmethod
    def of_file(cls, path: Path) -> "Pseudonyms":
        """The key in a file, which is made (for its owner alone) if it is not there.

        Raises:
            KeyFileError: it is something else, or cannot be read.
            OutputError: it cannot be written.
        """
        if not path.exists():
            with disk_explained(path):
                swap_text(path, secrets.token_hex(32) + "\n", mode=0o600)
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(f"the key file {path} cannot be read") from error
        if not _KEY.fullmatch(text):
            raise KeyFileError(
                f"{path} is no key file: it holds one line of 64 hexadecimal digits. Name a file "
                "that is not there, and one is made"
            )
        return cls(bytes.fromhex(text))

    def uid(self, uid: str) -> str:
        """A UID for another (PS3.5 B.2)."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=4).int}"

    def patient(self, identity: str) -> str:
        """A PatientID; empty for an empty identity."""
        return f"P{self._digest('patient', identity).hex()[:16].upper()}" if identity else ""

    def shifted(self, value: str, *, identity: str) -> str | None:
        """A date (VR DA or DT) moved back, by as much for every date of one patient.

        None where it is no date, or nobody knows whose: two dates of one unknown patient could
        then be told from each other, and from another's.
        """
        found = _DATE.fullmatch(value.strip())
        if not found or not identity:
            return None
        number = int.from_bytes(self._digest("days", identity)[:8])
        days = 1 + number % MOST_SHIFTED_DAYS
        try:
            moved = date(*map(int, found.groups()[:3])) - timedelta(days=days)
        except (ValueError, OverflowError):
            return None
        return f"{moved:%Y%m%d}{found[4]}"

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{value}".encode(), hashlib.sha256)
