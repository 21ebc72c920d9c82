"""Receives images by C-STORE (PS3.4 Annex B), from those who are on a list and nobody else.

The protocol is pynetdicom; owned here is who may send, how much, and what each failure is answered
with. AE titles are no passwords: the list keeps strays out, TLS or a network of one's own keeps
attackers out.
"""

import errno
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoders.images.raw_image import MAX_BYTES
from rag.atomic_io import disk_explained, only_writer
from rag.pacs import PacsError, silence_logger
from rag.pacs.association import (
    SILENCE_SECONDS,
    SLACK,
    Sender,
    allow,
    check_title,
    metered,
)
from rag.pacs.inbox import IMAGE_CLASSES, KEEP_FREE, NOTE_CLASSES, Inbox

if TYPE_CHECKING:
    from pynetdicom.events import Event

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Senders at one time; each may hold two or three times ``max_bytes`` of memory."""

_SUCCESS, _NO_ROOM, _NOT_UNDERSTOOD, _FAILED = 0x0000, 0xA700, 0xC000, 0x0110  # PS3.4 Table B.2-1


@dataclass(slots=True)
class Receiver:
    """A receiver that runs.

    Attributes:
        port: where it listens.
        counts: what happened so far: ``stored``, ``refused address``, ``refused title``,
            ``no room``, ``not understood``, ``broken connection``, ``failed``.
    """

    port: int
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, outcome: str) -> None:
        """Count one; called from many threads."""
        with self._lock:
            self.counts[outcome] += 1
        logger.info("receiver: %s", outcome)


@contextmanager
def receiving(
    folder: Path,
    *,
    title: str,
    senders: tuple[Sender, ...],
    host: str = "127.0.0.1",
    port: int = 11112,
    max_bytes: int = MAX_BYTES,
    keep_free: int = KEEP_FREE,
    silence_seconds: float = SILENCE_SECONDS,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Receiver]:
    """Receive images into a folder for as long as the block runs.

    Args:
        folder: where they are put; one receiver a folder.
        title: our AE title; who calls another is refused.
        senders: who may send.
        host: address to listen at; by default this machine's own, which nobody else reaches.
        port: 0 takes a free one.
        max_bytes: of one image; who sends more is cut off.
        keep_free: bytes that stay free on the disk.
        silence_seconds: after which a connection is given up.
        tls: of `tls_context`; who does not speak it, or shows no certificate, is cut off.

    Raises:
        PacsError: nobody may send, the port is taken, or another receiver has the folder.
        OutputError: the folder cannot be written.
    """
    if not senders:
        raise PacsError("name who may send, in dicom.peers or with --allow TITLE@ADDRESS")
    inbox, receiver = Inbox(folder, keep_free=keep_free), Receiver(port)
    with disk_explained(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with only_writer(folder / ".receive.lock", in_use=PacsError):
        with disk_explained(folder):
            inbox.open()
        silence_logger("pynetdicom")
        entity = _entity(title, silence_seconds)
        handlers = _handlers(inbox, receiver, senders, max_bytes)
        try:
            server = entity.make_server(
                (host, port),
                ae_title=title,
                evt_handlers=handlers,
                server_class=_server_class(receiver, senders, max_bytes, silence_seconds, tls),
            )
        except OSError as error:
            raise PacsError(
                f"cannot listen at {host} port {port}: {error.strerror}; choose another --port"
            ) from error
        entity._servers.append(server)  # as start_server does: shutdown ends what is listed
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        # around the end too: who was turned away and has not hung up yet is aborted by it, which
        # pynetdicom's state machine does not know and dies of
        with _broken_connections_counted(receiver):
            try:
                receiver.port = server.server_address[1]
                yield receiver
            finally:
                entity.shutdown()
                thread.join(5)


@contextmanager
def _broken_connections_counted(receiver: Receiver) -> Iterator[None]:
    """Threads of pynetdicom die of nonsense on the wire, and would show it on stderr."""
    before = threading.excepthook

    def note(died: threading.ExceptHookArgs) -> None:
        if not type(died.thread).__module__.startswith("pynetdicom"):
            before(died)
            return
        receiver.note("broken connection")
        logger.debug("a connection broke", exc_info=died.exc_value)

    threading.excepthook = note
    try:
        yield
    finally:
        threading.excepthook = before


def _entity(title: str, silence_seconds: float) -> Any:
    """What is offered: images and notes, in every syntax that our reader decodes, and C-ECHO."""
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES  # noqa: PLC0415 - heavy
    from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # noqa: PLC0415

    entity = AE(check_title(title))
    for uid in (*IMAGE_CLASSES, *NOTE_CLASSES):
        entity.add_supported_context(uid, ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification)
    entity.require_called_aet = True
    entity.maximum_associations = AT_ONCE
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = silence_seconds
    return entity


def _server_class(
    receiver: Receiver,
    senders: tuple[Sender, ...],
    max_bytes: int,
    silence_seconds: float,
    tls: ssl.SSLContext | None,
) -> Any:
    from pynetdicom.transport import ThreadedAssociationServer  # noqa: PLC0415 - heavy

    class Server(ThreadedAssociationServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            """Before a byte is read."""
            if any(one.at(client_address[0]) for one in senders):
                return True
            receiver.note("refused address")
            return False

        def get_request(self) -> tuple[socket.socket, Any]:
            plain, address = super().get_request()
            connection = metered(plain, left=max_bytes + SLACK, tls=tls)
            connection.settimeout(silence_seconds)  # pynetdicom would wait for ever within a PDU
            return connection, address

    return Server


def _handlers(
    inbox: Inbox, receiver: Receiver, senders: tuple[Sender, ...], max_bytes: int
) -> list[Any]:
    from pynetdicom import evt  # noqa: PLC0415 - heavy

    def requested(event: "Event") -> None:
        """The title belongs to the address, not only to somebody on the list."""
        asking = event.assoc.requestor
        title = str(getattr(asking.primitive, "calling_ae_title", "")).strip()
        if not any(one.title == title and one.at(asking.address) for one in senders):
            receiver.note("refused title")
            event.assoc.acse.send_reject(0x01, 0x01, 0x03)  # calling AE title not recognised
            event.assoc.kill()  # waits until the rejection is sent, as pynetdicom's own do

    def stored(event: "Event") -> int:
        outcome, status = store(inbox, event)
        receiver.note(outcome)
        allow(event, max_bytes + SLACK)
        return status

    return [(evt.EVT_REQUESTED, requested), (evt.EVT_C_STORE, stored)]


def store(inbox: Inbox, event: "Event", *, study_uid: str = "") -> tuple[str, int]:
    """Put an image away; what happened, and the status to answer with (PS3.4 Table B.2-1).

    Args:
        inbox: where to.
        event: a C-STORE request.
        study_uid: the study that was asked for, if one was.
    """
    try:
        uid = str(event.request.AffectedSOPInstanceUID)  # type: ignore[union-attr]
        inbox.put(event.encoded_dataset(), instance_uid=uid, study_uid=study_uid)
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
