"""Who may send images, and what came of it.

Owns AE titles with their addresses, and the counts. Knows nothing of the protocol.
"""

import ipaddress
import logging
import re
import threading
from collections import Counter
from dataclasses import dataclass, field

from rag.pacs import PacsError

logger = logging.getLogger(__name__)

_TITLE = re.compile(r"[!-~](?:[ -~]{0,14}[!-~])?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Sender:
    """Who may send: an AE title, from an address or network."""

    title: str
    network: Network

    @classmethod
    def parse(cls, text: str) -> "Sender":
        """``TITLE@ADDRESS``, as ``PACS@10.1.2.3`` or ``PACS@10.1.2.0/24``.

        Raises:
            PacsError: it is not written like this.
        """
        title, _, address = text.rpartition("@")
        try:
            return cls(check_title(title), ipaddress.ip_network(address))
        except ValueError:
            raise PacsError(
                f"{text!r} is no sender: write TITLE@ADDRESS, as PACS@10.1.2.3 or PACS@10.1.2.0/24"
            ) from None

    def at(self, address: str) -> bool:
        """Whether an address is this sender's."""
        found = ipaddress.ip_address(address.partition("%")[0])
        found = getattr(found, "ipv4_mapped", None) or found
        return found in self.network


@dataclass(slots=True)
class Receipts:
    """What happened so far, counted.

    Attributes:
        counts: by outcome: ``stored``, ``refused address``, ``refused title``, ``no room``,
            ``not understood``, ``broken connection``, ``failed``.
    """

    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, outcome: str) -> None:
        """Count one; called from many threads."""
        with self._lock:
            self.counts[outcome] += 1
        logger.info("receiver: %s", outcome)


def check_title(title: str) -> str:
    """An AE title (PS3.5, VR AE).

    Raises:
        PacsError: longer than 16 characters, or none at all.
    """
    if not _TITLE.fullmatch(title) or "\\" in title:
        raise PacsError(f"{title!r} is no AE title: 1 to 16 ASCII characters, no backslash")
    return title
