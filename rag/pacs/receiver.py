"""Receives images by C-STORE (PS3.4 Annex B) from allowed senders.

On top of pynetdicom: who may send, how much, and the status of each failure. AE titles are not
passwords: against attackers use TLS or a separate network.
"""

import errno
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.images.raw_image import MAX_BYTES
from rag.atomic_io import exclusive_lock, explain_disk_errors
from rag.pacs import PacsError, silence_logger
from rag.pacs.association import IDLE_TIMEOUT_S, Sender, check_title, limit_bytes, tls_context
from rag.pacs.inbox import MIN_FREE_BYTES, SOP_CLASSES, open_inbox, write_image

if TYPE_CHECKING:
    from pynetdicom.events import Event

    from rag.settings import DicomSettings

logger = logging.getLogger(__name__)

MAX_ASSOCIATIONS = 4
"""Each may need two or three times ``max_bytes`` of memory."""

_SUCCESS, _NO_ROOM, _NOT_UNDERSTOOD, _FAILED = 0x0000, 0xA700, 0xC000, 0x0110  # PS3.4 Table B.2-1


@dataclass(slots=True)
class Receiver:
    """A running receiver; its methods are called from many threads.

    Attributes:
        folder: inbox.
        senders: who may send.
        max_bytes: of one image.
        min_free_bytes: disk space that must stay free.
        port: where it listens.
        counts: number of ``stored``, ``refused address``, ``refused title``, ``no room``, ``not
            understood``, ``broken connection`` and ``failed`` so far.
    """

    folder: Path
    senders: tuple[Sender, ...]
    max_bytes: int
    min_free_bytes: int
    port: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, outcome: str) -> None:
        """Count and log an outcome."""
        with self._lock:
            self.counts[outcome] += 1
        logger.info("receiver: %s", outcome)

    def on_connect(self, event: "Event") -> None:
        """Limit a new connection before anything is read."""
        limit_bytes(event, self.max_bytes)

    def on_request(self, event: "Event") -> None:
        """Reject an association whose AE title is not allowed at its address."""
        requestor = event.assoc.requestor
        title = str(getattr(requestor.primitive, "calling_ae_title", "")).strip()
        allowed = [sender for sender in self.senders if sender.title == title]
        if not any(sender.matches_address(requestor.address) for sender in allowed):
            self.count("refused title")
            event.assoc.acse.send_reject(0x01, 0x01, 0x03)  # calling AE title not recognised
            event.assoc.kill()  # waits until the rejection is sent, as pynetdicom's own do

    def on_store(self, event: "Event") -> int:
        """Store a complete image, and reset the limit for the next."""
        outcome, status = store_image(self.folder, event, min_free_bytes=self.min_free_bytes)
        self.count(outcome)
        limit_bytes(event, self.max_bytes)
        return status


@contextmanager
def run_receiver(
    folder: Path,
    settings: "DicomSettings",
    *,
    senders: Iterable[str] = (),
    host: str = "127.0.0.1",
    port: int = 11112,
    max_bytes: int = MAX_BYTES,
    min_free_bytes: int = MIN_FREE_BYTES,
    idle_timeout_s: float = IDLE_TIMEOUT_S,
) -> Iterator[Receiver]:
    """Receive images into a folder while the block runs.

    Args:
        folder: inbox; only one receiver may use it.
        settings: our AE title, TLS, and who may send. Calls to another title, or without a
            certificate where TLS is set, are refused.
        senders: who else may send, each ``TITLE@ADDRESS``.
        host: address to listen at; by default only this machine can connect.
        port: 0 takes a free one.
        max_bytes: of one image; a larger one ends the connection.
        min_free_bytes: disk space that must stay free.
        idle_timeout_s: after which a silent connection is closed.

    Raises:
        UsageError: a sender or our title is invalid.
        PacsError: nobody may send, the port is taken, or another receiver has the folder.
        OutputError: the folder cannot be written.
    """
    allowed = tuple(map(Sender.parse, (*settings.peers, *senders)))
    if not allowed:
        raise PacsError("name who may send, in dicom.peers or with --allow TITLE@ADDRESS")
    from pynetdicom import evt  # noqa: PLC0415 - heavy

    receiver = Receiver(folder, allowed, max_bytes, min_free_bytes)
    entity = _entity(settings, idle_timeout_s)
    server_class = _server_class(receiver, idle_timeout_s, tls_context(settings, server=True))
    silence_logger("pynetdicom")
    with explain_disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive_lock(folder / ".receive.lock", in_use=PacsError):
        open_inbox(folder)
        try:
            server = entity.make_server(
                (host, port),
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, receiver.on_connect),
                    (evt.EVT_REQUESTED, receiver.on_request),
                    (evt.EVT_C_STORE, receiver.on_store),
                ],
                server_class=server_class,
            )
        except OSError as error:
            raise PacsError(
                f"cannot listen at {host} port {port}: {error.strerror}; choose another --port"
            ) from error
        entity._servers.append(server)  # as start_server does, for shutdown
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        # also around the shutdown: it aborts rejected peers that have not hung up yet, on which
        # pynetdicom's state machine fails
        with _count_broken_connections(receiver):
            try:
                receiver.port = server.server_address[1]
                yield receiver
            finally:
                entity.shutdown()
                thread.join(5)


@contextmanager
def _count_broken_connections(receiver: Receiver) -> Iterator[None]:
    """Count malformed traffic, on which threads of pynetdicom fail, instead of printing it."""
    original = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not type(failure.thread).__module__.startswith("pynetdicom"):
            original(failure)
            return
        receiver.count("broken connection")
        logger.debug("a connection broke", exc_info=failure.exc_value)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = original


def _entity(settings: "DicomSettings", idle_timeout_s: float) -> Any:
    """Accepts images and Key Object Selections in all transfer syntaxes, and C-ECHO."""
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES  # noqa: PLC0415 - heavy
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # noqa: PLC0415

    entity = AE(check_title(settings.ae_title))
    for uid in SOP_CLASSES:
        entity.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    entity.require_called_aet = True
    entity.maximum_associations = MAX_ASSOCIATIONS
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = idle_timeout_s
    return entity


def _server_class(receiver: Receiver, idle_timeout_s: float, tls: ssl.SSLContext | None) -> Any:
    from pynetdicom.transport import ThreadedAssociationServer  # noqa: PLC0415 - heavy

    class Server(ThreadedAssociationServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            """Refuse unknown addresses before anything is read."""
            if any(sender.matches_address(client_address[0]) for sender in receiver.senders):
                return True
            receiver.count("refused address")
            return False

        def get_request(self) -> tuple[socket.socket, Any]:
            connection, address = super().get_request()
            if tls:  # the handshake waits for the first read, so a silent peer blocks nobody
                connection = tls.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False
                )
            connection.settimeout(idle_timeout_s)  # pynetdicom has no timeout within a PDU
            return connection, address

    return Server


def store_image(
    folder: Path, event: "Event", *, study_uid: str = "", min_free_bytes: int = MIN_FREE_BYTES
) -> tuple[str, int]:
    """Write a received image; returns the outcome and the status (PS3.4 Table B.2-1).

    Args:
        folder: inbox.
        event: a C-STORE request.
        study_uid: requested StudyInstanceUID; empty for any.
        min_free_bytes: disk space that must stay free.
    """
    try:
        uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        data = event.encoded_dataset()
        write_image(
            folder, data, instance_uid=uid, study_uid=study_uid, min_free_bytes=min_free_bytes
        )
    except PacsError:
        return "not understood", _NOT_UNDERSTOOD
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return "no room", _NO_ROOM
        logger.warning("an image could not be written: %s", error.strerror)
        return "failed", _NO_ROOM
    except Exception as error:
        logger.debug("an image was not received", exc_info=error)
        return "failed", _FAILED
    return "stored", _SUCCESS
