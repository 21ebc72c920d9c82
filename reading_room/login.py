"""Authentication: none on the loopback address, by name and password, or by a reverse proxy.

``python -m reading_room.login NAME`` asks for a password and prints the line for the users file.
Passwords are kept as scrypt hashes and sent by HTTP Basic, so put TLS in front of anything but the
loopback address.
"""

import base64
import binascii
import getpass
import hashlib
import hmac
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rag.errors import SettingsError
from rag.settings import PageSettings

_COST = {"n": 2**14, "r": 8, "p": 1}
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True)
class Login:
    """Recognises readers.

    Attributes:
        users: name to scrypt hash; empty where there is no password login.
        header: name of the proxy's header in lower case, empty where there is none.
        proxies: addresses that the header is believed from.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    header: str = ""
    proxies: frozenset[str] = frozenset()
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _seen: set[bytes] = field(default_factory=set)

    @classmethod
    def of(cls, settings: PageSettings) -> "Login":
        """From the settings.

        Raises:
            SettingsError: the users file cannot be read, or the page is open to the network without
                a login.
        """
        users = _read_users(settings.users) if settings.users else {}
        if settings.host not in LOOPBACK and not users and not settings.user_header:
            raise SettingsError(
                f"page.host is {settings.host!r}: others could reach the page, and there is no "
                "login. Set page.users or page.user_header, or listen on 127.0.0.1."
            )
        return cls(users, settings.user_header.lower(), frozenset(settings.trusted_proxies))

    def reader_of(
        self, headers: Mapping[str, str], *, address: str, known_only: bool = False
    ) -> str | None:
        """The reader's name; empty where none is needed, None where one is missing.

        Args:
            headers: of the request, names in lower case.
            address: of who connected to us.
            known_only: take no password but those that were right before.
        """
        if self.header and address in self.proxies and headers.get(self.header, "").strip():
            return headers[self.header].strip()[:120]
        if self.users:
            return self._by_password(headers.get("authorization", ""), known_only=known_only)
        return None if self.header else ""

    def _by_password(self, authorization: str, *, known_only: bool) -> str | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        # scrypt is slow on purpose: a correct password is remembered, as a keyed hash
        known = hmac.digest(self._key, token.encode(), "sha256")
        try:
            name, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        if known in self._seen:
            return name
        if known_only:
            return None
        kept = self.users.get(name)
        # hash for unknown names too: timing must not reveal who is a user
        right = matches(password, kept or _NOBODY)
        if not kept or not right:
            return None
        self._seen.add(known)
        return name


def hashed(password: str) -> str:
    """A password as the users file keeps it."""
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, maxmem=2**26, **_COST)
    return f"scrypt${salt.hex()}${digest.hex()}"


def matches(password: str, kept: str) -> bool:
    """Whether a password is the one that was hashed."""
    _, salt, digest = kept.split("$")
    found = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), maxmem=2**26, **_COST)
    return hmac.compare_digest(found.hex(), digest)


_NOBODY = f"scrypt${'00' * 16}${'00' * 64}"


def _read_users(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"page.users: {path} cannot be read: {error.strerror}") from error
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, kept = line.strip().partition(":")
        if not name or len(kept.split("$")) != 3 or not kept.startswith("scrypt$"):
            raise SettingsError(
                f"page.users: line {number} of {path} is not name:scrypt$...; make it with "
                "python -m reading_room.login NAME"
            )
        users[name] = kept
    if not users:
        raise SettingsError(f"page.users: {path} has no users")
    return users


if __name__ == "__main__":
    if len(sys.argv) != 2 or ":" in sys.argv[1]:
        sys.exit("usage: python -m reading_room.login NAME")
    sys.stdout.write(f"{sys.argv[1]}:{hashed(getpass.getpass())}\n")
