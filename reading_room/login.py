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
        users: name to bcrypt hash; empty where there is no password login.
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
        # bcrypt is slow on purpose: a correct password is remembered, as a keyed hash
        known = hmac.digest(self._key, token.encode(), "sha256")
        try:
            name, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except ValueError:  # no base64, or no UTF-8
            return None
        if known not in self._seen:
            # hash for unknown names too, at a user's cost: timing must not reveal who is one
            kept = list(self.users.values())
            nobody = kept[hash(name) % len(kept)][:7] + "." * 53
            if known_only or not matches(password, self.users.get(name, nobody)):
                return None
            self._seen.add(known)
        return name


def hashed(password: str) -> str:
    """A password as the users file keeps it."""
    return bcrypt.hashpw(_heard(password), bcrypt.gensalt(rounds=10)).decode()


def matches(password: str, kept: str) -> bool:
    """Whether a password is the one that was hashed."""
    return bcrypt.checkpw(_heard(password), kept.encode())


def _heard(password: str) -> bytes:
    """What bcrypt takes of a password, in `htpasswd` too; the library refuses more."""
    return password.encode()[:72]


_LINE = re.compile(
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
        found = _LINE.fullmatch(line.strip())
        if not found:
            raise SettingsError(
                f"page.users: line {number} of {path} is not name:$2b$...; make it with "
                "htpasswd -B or python -m reading_room.login NAME"
            )
        users[found[1]] = found[2]
    if not users:
        raise SettingsError(f"page.users: {path} has no users")
    return users


if __name__ == "__main__":
    if len(sys.argv) != 2 or ":" in sys.argv[1]:
        sys.exit("usage: python -m reading_room.login NAME")
    sys.stdout.write(f"{sys.argv[1]}:{hashed(getpass.getpass())}\n")
