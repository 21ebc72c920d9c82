"""C-STORE: who may send, and how images are written."""

import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
import requests
from pydicom import dcmread
from support.dicom_files import JPEG_2000_LOSSLESS, dicom, ramp
from support.orthanc import Orthanc, needs_orthanc
from support.pacs import (
    assert_not_identified,
    files,
    image,
    report,
    send,
    short_uid,
    start_receiver,
)

from demo.phantom import write_phantom_dicom
from encoders.image_io import read_image
from rag.errors import UsageError
from rag.pacs import PacsError
from rag.pacs.association import Sender
from rag.pacs.receiver import Receiver, run_receiver
from rag.settings import DicomSettings

pytestmark = pytest.mark.slow


@needs_orthanc
def test_an_image_sent_by_orthanc_gets_a_pseudonymous_name(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uid = short_uid()
    sent = image(uid, syntax=JPEG_2000_LOSSLESS)
    name = orthanc.store(sent)
    caplog.set_level(logging.INFO)
    with start_receiver(tmp_path, "ORTHANC@127.0.0.1", port=orthanc.destination_port) as receiver:
        assert orthanc.request("/modalities/cxr/echo", {}).ok
        for _ in range(2):  # sent twice, stored once
            assert orthanc.request("/modalities/cxr/store", [name]).ok
    assert receiver.counts == {"stored": 2}
    (path,) = files(tmp_path)
    assert np.array_equal(read_image(path).pixels, read_image(sent).pixels)
    assert path.stat().st_mode & 0o777 == 0o600
    assert_not_identified(caplog.text + str(path.relative_to(tmp_path)), uid)


@needs_orthanc
def test_an_unknown_title_is_rejected_for_orthanc(orthanc: Orthanc, tmp_path: Path) -> None:
    name = orthanc.store(image(short_uid()))
    with start_receiver(tmp_path, "PACS@127.0.0.1", port=orthanc.destination_port) as receiver:
        answer = orthanc.request("/modalities/cxr/store", [name])
    assert answer.status_code == requests.codes.internal_server_error
    assert receiver.counts["refused title"] > 0
    assert not files(tmp_path)


def test_only_allowed_senders_may_send(tmp_path: Path) -> None:
    data = image(short_uid())
    allowed = ("SENDER@127.0.0.1", "OTHER@10.9.8.0/24")
    with start_receiver(tmp_path, *allowed) as receiver:
        assert send(receiver, data, title="STRANGER") == "rejected"
        assert send(receiver, data, title="OTHER") == "rejected"  # allowed at another address
        assert send(receiver, data, called="SOMEBODY") == "rejected"
        assert not files(tmp_path)
        assert send(receiver, data) == 0
        assert len(files(tmp_path)) == 1
    with start_receiver(tmp_path / "b", "SENDER@10.9.8.0/24") as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as stranger:
            assert stranger.recv(1) == b""  # before sending anything
        assert receiver.counts == {"refused address": 1}


@pytest.mark.parametrize("uid", ["../../../evil", "/etc/passwd", "a/b", ".."])
def test_file_names_do_not_depend_on_uids_as_sent(tmp_path: Path, uid: str) -> None:
    data = image("1.2.3")
    dataset = dcmread(BytesIO(data))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.StudyInstanceUID = uid
    buffer = BytesIO()
    dataset.save_as(buffer)
    with start_receiver(tmp_path / "in") as receiver:
        send(receiver, buffer.getvalue())
    assert all(path.suffix == ".dcm" and len(path.stem) == 20 for path in files(tmp_path / "in"))
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_failures_are_answered_with_their_status(tmp_path: Path) -> None:
    data = image(short_uid())
    with start_receiver(tmp_path / "full", min_free_bytes=1 << 60) as receiver:
        assert send(receiver, data) == 0xA700
    without_study = dicom(ramp(12), BitsStored=12)
    with start_receiver(tmp_path / "odd") as receiver:
        assert send(receiver, without_study) == 0xC000
        assert receiver.counts == {"not understood": 1}
    with start_receiver(tmp_path / "small", max_bytes=1000) as receiver:
        assert send(receiver, dicom(ramp(16, rows=1000, columns=1000))) == "closed"
    assert not files(tmp_path)


def test_other_sop_classes_are_rejected(tmp_path: Path) -> None:
    write_phantom_dicom(tmp_path / "image.dcm", size=256)
    path = report(tmp_path / "sr.dcm", image=tmp_path / "image.dcm")
    with start_receiver(tmp_path / "in") as receiver:
        assert send(receiver, path.read_bytes()) == "closed"  # no context was accepted
    assert not files(tmp_path / "in")


def test_false_lengths_and_silent_peers_are_cut_off(tmp_path: Path) -> None:
    with start_receiver(tmp_path, max_bytes=1 << 20, idle_timeout_s=1) as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as bomb:
            bomb.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF))
            with pytest.raises(ConnectionError):
                for _ in range(10_000):
                    bomb.sendall(bytes(65_536))
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as silent:
            silent.sendall(struct.pack(">BBL", 1, 0, 1000))
            started = time.monotonic()
            assert silent.recv(1) == b""
            assert time.monotonic() - started < 8
        assert send(receiver, image(short_uid())) == 0  # and it still receives


def test_the_command_receives_until_interrupted(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from rag.cli.main import main; main()",
        "receive",
        str(tmp_path),
    ]
    process = subprocess.Popen(
        [*command, "--port", "0", "--allow", "SENDER@127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "CXR_RAG_LOG": "INFO", "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert process.stderr is not None
    message = next(line for line in process.stderr if "listens on" in line)
    uid = short_uid()
    assert send(int(message.split(" port ")[1].split(";")[0]), image(uid)) == 0
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "1 stored\n")
    assert_not_identified(err, uid)
    assert len(files(tmp_path)) == 1


def record_sender(receiver: Receiver, data: bytes) -> bytes:
    """All bytes that a sender sends."""
    received = bytearray()

    def relay(sender: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := sender.recv(65_536):
                if to is not waiting:
                    received.extend(part)
                to.sendall(part)
            to.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(3) as threads:
        sending = threads.submit(send, server.getsockname()[1], data)
        waiting, _ = server.accept()
        with waiting, socket.create_connection(("127.0.0.1", receiver.port)) as onward:
            directions = (
                threads.submit(relay, waiting, onward),
                threads.submit(relay, onward, waiting),
            )
            assert sending.result(30) == 0
            for direction in directions:
                direction.result(30)
    return bytes(received)


def test_malformed_traffic_ends_only_its_own_connection(tmp_path: Path) -> None:
    with start_receiver(tmp_path, idle_timeout_s=1) as receiver:
        recording = record_sender(receiver, image(short_uid()))
        greeting = 6 + struct.unpack(">L", recording[2:6])[0]
        for number in range(10):
            mutated, random = bytearray(recording[greeting:]), Random(number)  # noqa: S311
            for _ in range(3):  # within the message's first PDU: lengths, context, command
                mutated[random.randrange(120)] = random.randrange(256)
            with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as sender:
                sender.sendall(recording[:greeting])
                assert sender.recv(65_536)[0] == 2  # accepted
                with contextlib.suppress(ConnectionError):
                    sender.sendall(mutated)
                    while sender.recv(65_536):
                        pass
        assert send(receiver, image(short_uid())) == 0
        assert receiver.counts["broken connection"] > 0
    assert not [path for path in files(tmp_path) if path.suffix != ".dcm"]


def test_folder_and_port_are_exclusive_and_senders_required(tmp_path: Path) -> None:
    (tmp_path / "dcm-1").mkdir()
    (tmp_path / "dcm-1" / ".ab.dcm.new").write_bytes(b"torn")
    with start_receiver(tmp_path) as receiver:
        assert not list(tmp_path.rglob("*.new"))
        with pytest.raises(PacsError, match="another process is writing"), start_receiver(tmp_path):
            pass
        second = start_receiver(tmp_path / "b", port=receiver.port)
        with pytest.raises(PacsError, match="choose another --port"), second:
            pass
    with (
        pytest.raises(PacsError, match="--allow"),
        run_receiver(tmp_path, DicomSettings()),
    ):
        pass


@pytest.mark.parametrize(
    "text", ["PACS", "@10.0.0.1", "PACS@", "PACS@server", "A" * 17 + "@1.2.3.4"]
)
def test_sender_parsing(text: str) -> None:
    with pytest.raises(UsageError):
        Sender.parse(text)


def test_sender_addresses() -> None:
    one = Sender.parse("PACS@10.1.2.0/24")
    assert one.matches_address("10.1.2.3")
    assert one.matches_address("::ffff:10.1.2.3")
    assert not one.matches_address("10.1.3.3")
    assert not one.matches_address("fe80::1%eth0")
