"""Authentication: none on the loopback address, by name and password, or by a reverse proxy.

The users file is one of ``htpasswd -B``; ``python -m reading_room.login NAME`` asks for a password
and prints a line for it. Passwords are sent by HTTP Basic, so put TLS in front of anything but the
loopback address.
"""

import base64
import getpass
import hmac
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt

from rag.errors import SettingsError
from rag.settings import PageSettings

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True)
class Login:
    """Recognises readers.

    Attributes:
        users: name to bcrypt hash; empty without password login.
        header: the proxy's header with the name, in lower case; empty without one.
        proxies: addresses from which this header is trusted.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    header: str = ""
    proxies: frozenset[str] = frozenset()
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _verified: set[bytes] = field(default_factory=set)

    @classmethod
    def from_settings(cls, settings: PageSettings) -> "Login":
        """The login of a page.

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
        self, headers: Mapping[str, str], *, address: str, verified_only: bool = False
    ) -> str | None:
        """The reader's name; empty if the page has no login, None if the reader must sign in.

        Args:
            headers: of the request, names in lower case.
            address: of the direct peer.
            verified_only: accept only passwords that were right before.
        """
        if self.header and address in self.proxies and headers.get(self.header, "").strip():
            return headers[self.header].strip()[:120]
        if self.users:
            return self._by_password(headers.get("authorization", ""), verified_only=verified_only)
        return None if self.header else ""

    def _by_password(self, authorization: str, *, verified_only: bool) -> str | None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        # bcrypt is slow on purpose: a correct password is remembered, as a keyed hash
        digest = hmac.digest(self._key, token.encode(), "sha256")
        try:
            name, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except ValueError:  # not base64, or not UTF-8
            return None
        if digest not in self._verified:
            # hash for unknown names too, at a user's cost: timing must not reveal who is a user
            hashes = list(self.users.values())
            no_password = hashes[hash(name) % len(hashes)][:7] + "." * 53
            if verified_only or not verify_password(password, self.users.get(name, no_password)):
                return None
            self._verified.add(digest)
        return name


def hash_password(password: str) -> str:
    """The bcrypt hash of a password, as in the users file."""
    return bcrypt.hashpw(_bcrypt_input(password), bcrypt.gensalt(rounds=10)).decode()


def verify_password(password: str, password_hash: str) -> bool:
    """Whether a password has this bcrypt hash."""
    return bcrypt.checkpw(_bcrypt_input(password), password_hash.encode())


def _bcrypt_input(password: str) -> bytes:
    """The first 72 bytes: `htpasswd` ignores the rest, the library refuses it."""
    return password.encode()[:72]


_USER_LINE = re.compile(
    r"([^:]+):(\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31})"
)


def _read_users(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"page.users: {path} cannot be read: {error.strerror}") from error
    users = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _USER_LINE.fullmatch(line.strip())
        if not match:
            raise SettingsError(
                f"page.users: line {number} of {path} is not name:$2b$...; make it with "
                "htpasswd -B or python -m reading_room.login NAME"
            )
        users[match[1]] = match[2]
    if not users:
        raise SettingsError(f"page.users: {path} has no users")
    return users


if __name__ == "__main__":
    if len(sys.argv) != 2 or ":" in sys.argv[1]:
        sys.exit("usage: python -m reading_room.login NAME")
    sys.stdout.write(f"{sys.argv[1]}:{hash_password(getpass.getpass())}\n")
