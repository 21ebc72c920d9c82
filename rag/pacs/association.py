"""DICOM associations (PS3.8): peers, TLS, limits on what is read, and how to open one.

`rag.pacs.receiver` accepts associations, `rag.pacs.dimse` requests them.
"""

import errno
import ipaddress
import logging
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from encoders.images.raw_image import MAX_BYTES
from rag.errors import UsageError
from rag.pacs import PacsError, silence_logger
from rag.pacs.inbox import SOP_CLASSES

if TYPE_CHECKING:
    from pynetdicom.events import Event

    from rag.settings import DicomSettings

logger = logging.getLogger(__name__)

IDLE_TIMEOUT_S = 30.0
_MESSAGE_OVERHEAD_BYTES = 1 << 20

_COMPRESSED_SYNTAXES = "5 4.50 4.51 4.57 4.70 4.80 4.81 4.90 4.91 4.201 4.203"
_SYNTAXES = (
    ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"],
    *(["1.2.840.10008.1.2." + suffix] for suffix in _COMPRESSED_SYNTAXES.split()),
)
"""One presentation context each, so that images are sent as they are stored; at most 128."""
_AE_TITLE = re.compile(r"[!-~](?:[ -~]{0,14}[!-~])?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Sender:
    """A peer that may send: an AE title at an address or in a network."""

    title: str
    network: Network

    @classmethod
    def parse(cls, text: str) -> "Sender":
        """Parse ``TITLE@ADDRESS``, such as ``PACS@10.1.2.3`` or ``PACS@10.1.2.0/24``.

        Raises:
            UsageError: not of this form.
        """
        title, _, address = text.rpartition("@")
        try:
            return cls(network=ipaddress.ip_network(address), title=check_title(title))
        except ValueError:
            raise UsageError(
                f"{text!r} is not a valid sender; use TITLE@ADDRESS, for example PACS@10.1.2.3 or "
                "PACS@10.1.2.0/24"
            ) from None

    def matches_address(self, address: str) -> bool:
        """Whether an address, without its IPv6 zone, belongs to this sender."""
        parsed = ipaddress.ip_address(address.partition("%")[0])
        return (getattr(parsed, "ipv4_mapped", None) or parsed) in self.network


@dataclass(frozen=True, slots=True)
class Archive:
    """A peer that we call: an AE title at a host and port."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Archive":
        """Parse ``TITLE@HOST:PORT``, such as ``PACS@10.1.2.3:104``.

        Raises:
            UsageError: not of this form.
        """
        title, _, address = text.rpartition("@")
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                f"{text!r} is not a valid archive; use TITLE@HOST:PORT, "
                "for example PACS@10.1.2.3:104"
            )
        return cls(check_title(title), host.strip("[]"), int(port))


def check_title(title: str) -> str:
    """Return the AE title if it is valid (PS3.5, VR AE).

    Raises:
        UsageError: it is not.
    """
    if not _AE_TITLE.fullmatch(title) or "\\" in title:
        raise UsageError(
            f"{title!r} is not a valid AE title: 1 to 16 ASCII characters, without backslash"
        )
    return title


def limit_bytes(event: "Event", max_bytes: int) -> None:
    """Let an event's connection bring one more image of at most ``max_bytes``; more ends it.

    pynetdicom trusts the length that a PDU or message declares and collects it in memory, so this
    counts before anything is read. To be called again after each image.
    """
    connection: Any = event.assoc.dul.socket
    left = max_bytes + _MESSAGE_OVERHEAD_BYTES

    def recv(count: int) -> bytearray:
        nonlocal left
        left -= count
        if left < 0:
            raise OSError(errno.EMSGSIZE, "more than one image at once")
        data: bytearray = type(connection).recv(connection, count)
        return data

    connection.recv = recv


def tls_context(settings: "DicomSettings", *, server: bool) -> ssl.SSLContext | None:
    """TLS 1.2 or later with certificates on both sides (BCP 195); None if not configured.

    Raises:
        PacsError: a file cannot be read, or is not a certificate or key.
    """
    if settings.tls_certificate is None:
        return None
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    try:
        context = ssl.create_default_context(purpose, cafile=settings.tls_authority)
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:  # SSLError too
        raise PacsError(
            "dicom.tls_certificate, dicom.tls_key and dicom.tls_authority must be PEM files: "
            f"{error.strerror or error}"
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@contextmanager
def open_association(
    archive: Archive, settings: "DicomSettings", on_store: Callable[["Event"], int] | None = None
) -> Iterator[Any]:
    """An association for queries; with ``on_store``, also for images by C-GET.

    Raises:
        PacsError: it cannot be opened, or breaks.
    """
    from pynetdicom import AE, build_context, build_role, evt  # noqa: PLC0415 - heavy

    silence_logger("pynetdicom")
    entity = AE(check_title(settings.ae_title))
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = IDLE_TIMEOUT_S
    entity.connection_timeout = IDLE_TIMEOUT_S
    contexts = [build_context(query_model_uid(name)) for name in ("Find", "Move", "Get")]
    classes = SOP_CLASSES if on_store else ()
    contexts += [build_context(uid, syntax) for uid in classes for syntax in _SYNTAXES]
    handlers: list[Any] = [(evt.EVT_CONN_OPEN, lambda event: limit_bytes(event, MAX_BYTES))]
    if on_store:
        handlers.append((evt.EVT_C_STORE, on_store))
    tls = tls_context(settings, server=False)
    link = entity.associate(
        archive.host,
        archive.port,
        contexts=contexts,
        ae_title=archive.title,
        ext_neg=[build_role(uid, scp_role=True) for uid in classes],
        evt_handlers=handlers,
        tls_args=(tls, archive.host) if tls else None,
    )
    try:
        if link.is_rejected:
            raise PacsError(
                f"{archive.title} refuses the association: it must know our AE title "
                f"{settings.ae_title} and this address, and be called {archive.title}"
            )
        if not link.is_established:
            encrypted = "with TLS" if tls else "without TLS"
            raise PacsError(
                f"no DICOM association {encrypted} at {archive.host} port {archive.port}: nothing "
                "answers there, or it hangs up"
            )
        yield link
    except (ValueError, RuntimeError) as error:  # from pynetdicom: no context, or it broke
        logger.debug("a DIMSE request failed", exc_info=error)
        raise PacsError(f"{archive.title} does not offer this service, or hung up") from None
    finally:
        if link.is_established:
            link.release()
        else:
            link.abort()
        if link.dul.socket and link.dul.socket.socket:  # pynetdicom leaves it open on a hang-up
            link.dul.socket.socket.close()


def query_model_uid(operation: str) -> str:
    """UID of a Study Root Query/Retrieve model (PS3.4 C.6.2): "Find", "Move" or "Get"."""
    return "1.2.840.10008.5.1.4.1.2.2." + {"Find": "1", "Move": "2", "Get": "3"}[operation]
