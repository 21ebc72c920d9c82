"""Images from and reports to a real Orthanc on this machine; senders that are not on the list."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
import pytest
import requests
from dicom_files import JPEG_2000_LOSSLESS, dicom, ramp
from made_up_reports import made_up_hits
from orthanc import OUR_TITLE, Orthanc, needs_orthanc, running_orthanc
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage, generate_uid
from pynetdicom import AE
from typer.testing import CliRunner

from demo.phantom import write_phantom_dicom
from encoders.images.image_io import read_image
from rag.batch.grouping import group_images
from rag.batch.inputs import list_images
from rag.cli.main import app
from rag.export.dicom_sr import as_dicom_sr
from rag.export.text import Export
from rag.pacs.dicomweb import fetch_study, store_report
from rag.pacs.errors import HospitalError
from rag.pacs.receiver import Receipts, Receiver, Sender, receiving
from rag.prediction import Prediction
from rag.review.reviewed_report import ReviewedReport, Signature
from rag.schema import Draft, DraftSentence, Status

NAMES = ("Quibblewick", "Thaddeus", "MRN-998877")
EVERYBODY_HERE = "127.0.0.0/8"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


def image(study_uid: str, *, syntax: str = "", number: int = 1, **attributes: object) -> bytes:
    """A ramp of an invented person."""
    return dicom(
        ramp(12, rows=64) + number,
        **({"syntax": syntax} if syntax else {}),  # type: ignore[arg-type]
        PatientName="Quibblewick^Thaddeus",
        PatientID="MRN-998877",
        BitsStored=12,
        StudyInstanceUID=study_uid,
        SeriesInstanceUID=f"{study_uid}.1",
        SOPInstanceUID=f"{study_uid}.1.{number}",
        **attributes,
    )


def short_uid() -> str:
    return str(generate_uid())[:50].rstrip(".")


def report(path: Path, *, image: Path, signed: bool = False) -> Path:
    drafted = Draft((DraftSentence("The heart is enlarged.", ("R1",)),), ())
    prediction = Prediction(
        file="image",
        status=Status.OK,
        draft=drafted,
        hits=tuple(made_up_hits()),
        encoder_id="enc",
        index_id="idx",
        llm="model",
        prompt="select_v1",
    )
    what = Export.of(prediction)
    if signed:
        by = Signature("Roe, Jane", "2026-01-02T03:04:05+01:00")
        what = Export(prediction, ReviewedReport.of(drafted).accept([0]).sign(by))
    path.write_bytes(as_dicom_sr(what, image=image))
    return path


def nobody_is_named(text: str, *uids: str) -> None:
    assert not [secret for secret in (*NAMES, *uids) if secret.lower() in text.lower()]


# --- DICOMweb


@needs_orthanc
def test_a_study_is_fetched_with_the_same_pixels_and_nobody_named(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uid, other = short_uid(), short_uid()
    sent = [image(uid), image(uid, number=2, syntax=JPEG_2000_LOSSLESS, ViewPosition="LL")]
    for one in (*sent, image(other)):
        orthanc.take(one)
    caplog.set_level(logging.INFO)

    found = fetch_study(orthanc.dicomweb, uid, tmp_path / "in")

    assert (len(found.images), found.others, found.problems) == (2, 0, ())
    originals = {read.pixels.tobytes() for read in map(read_image, sent)}
    assert {read_image(path).pixels.tobytes() for path in found.images} == originals
    syntaxes = {dcmread(path).file_meta.TransferSyntaxUID for path in found.images}
    assert JPEG_2000_LOSSLESS in syntaxes  # as stored, not unpacked on the way
    assert {path.stat().st_mode & 0o777 for path in found.images} == {0o600}
    nobody_is_named(caplog.text + str(found.images), uid)
    (study,) = group_images(list_images(tmp_path / "in").images)  # and so to `cxr-rag batch`
    assert len(study.further) == 1
    again = fetch_study(orthanc.dicomweb, uid, tmp_path / "in")
    assert again.images == found.images
    assert len([path for path in (tmp_path / "in").rglob("*") if path.is_file()]) == 2


@needs_orthanc
@pytest.mark.parametrize("signed", [False, True])
def test_a_stored_report_comes_back_as_what_it_is(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture, signed: bool
) -> None:
    uid = short_uid()
    (tmp_path / "image.dcm").write_bytes(image(uid))
    orthanc.take(image(uid))
    path = report(tmp_path / "sr.dcm", image=tmp_path / "image.dcm", signed=signed)
    caplog.set_level(logging.INFO)

    stored = store_report(orthanc.dicomweb, path)

    expected = ("COMPLETE", "VERIFIED") if signed else ("PARTIAL", "UNVERIFIED")
    assert (stored.completion, stored.verification) == expected
    nobody_is_named(caplog.text, uid)
    ids = orthanc.ask(
        "/tools/find", {"Level": "Instance", "Query": {"Modality": "SR", "StudyInstanceUID": uid}}
    )
    (name,) = ids.json()
    back = dcmread(BytesIO(orthanc.ask(f"/instances/{name}/file").content))
    assert back.SOPClassUID == ComprehensiveSRStorage
    assert (back.CompletionFlag, back.VerificationFlag) == expected
    assert back == dcmread(path)
    back.save_as(tmp_path / "back.dcm")
    second_reader = shutil.which("dsrdump")
    assert second_reader, "dcmtk is not installed; `make test` installs or names it"
    subprocess.run([second_reader, tmp_path / "back.dcm"], check=True, capture_output=True)
    # the report lies beside the image, and is no image to fetch
    found = fetch_study(orthanc.dicomweb, uid, tmp_path / "in")
    assert (len(found.images), found.others) == (1, 1)


@needs_orthanc
def test_the_commands_fetch_and_store(orthanc: Orthanc, tmp_path: Path) -> None:
    uid = short_uid()
    orthanc.take(image(uid))
    run = CliRunner().invoke(
        app, ["dicomweb", "fetch", orthanc.dicomweb, uid, str(tmp_path / "in")]
    )
    assert run.exit_code == 0
    assert run.output.startswith("1 images in ")
    nobody_is_named(run.output, uid)
    (fetched,) = (tmp_path / "in").rglob("*.dcm")
    path = report(tmp_path / "sr.dcm", image=fetched)
    run = CliRunner().invoke(app, ["dicomweb", "store", orthanc.dicomweb, str(path)])
    assert run.output == "stored: PARTIAL, UNVERIFIED\n"


@needs_orthanc
def test_a_study_that_is_not_there_is_said(orthanc: Orthanc, tmp_path: Path) -> None:
    with pytest.raises(HospitalError, match="no instance of this study"):
        fetch_study(orthanc.dicomweb, "1.2.3.4.5", tmp_path)


@pytest.mark.parametrize(
    ("url", "uid", "words"),
    [
        ("http://10.0.0.1/dicom-web", "1.2", "in the clear"),
        ("https://me:secret@server/dicom-web", "1.2", "netrc"),
        ("ftp://server/", "1.2", "looks like"),
        ("http://127.0.0.1:9/dicom-web", "1.2", "nothing answers"),
        ("http://127.0.0.1:9/dicom-web", "../../etc", "no UID"),
    ],
)
def test_where_nothing_may_be_asked(tmp_path: Path, url: str, uid: str, words: str) -> None:
    with pytest.raises(HospitalError, match=words) as told:
        fetch_study(url, uid, tmp_path)
    assert "secret" not in str(told.value)


def test_a_draft_that_says_it_is_verified_is_not_sent(tmp_path: Path) -> None:
    write_phantom_dicom(tmp_path / "image.dcm", size=256)
    path = report(tmp_path / "sr.dcm", image=tmp_path / "image.dcm")
    document = dcmread(path)
    for completion, verification in [("PARTIAL", "VERIFIED"), ("COMPLETE", "UNVERIFIED")]:
        document.CompletionFlag, document.VerificationFlag = completion, verification
        document.save_as(path)
        with pytest.raises(HospitalError, match="PARTIAL and UNVERIFIED"):
            store_report("http://127.0.0.1:9/dicom-web", path)
    with pytest.raises(HospitalError, match="nothing else is sent"):
        store_report("http://127.0.0.1:9/dicom-web", sr_of_a_image(tmp_path))
    with pytest.raises(HospitalError, match="no DICOM structured report"):
        store_report("http://127.0.0.1:9/dicom-web", Path(__file__))


def sr_of_a_image(folder: Path) -> Path:
    """An image that bears the flags of a report."""
    dataset = dcmread(folder / "image.dcm")
    dataset.CompletionFlag, dataset.VerificationFlag = "PARTIAL", "UNVERIFIED"
    dataset.save_as(folder / "odd.dcm")
    return folder / "odd.dcm"


# --- C-STORE


def one_receiver(
    folder: Path, *allowed: str, port: int = 0, **more: int
) -> AbstractContextManager[Receiver]:
    senders = tuple(map(Sender.parse, allowed or (f"SENDER@{EVERYBODY_HERE}",)))
    return receiving(folder, title=OUR_TITLE, senders=senders, port=port, **more)


def send(
    receiver: Receiver, data: bytes, *, title: str = "SENDER", called: str = OUR_TITLE
) -> int | str:
    """The status of one C-STORE, or how the association ended."""
    dataset = dcmread(BytesIO(data))
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    syntax = dataset.file_meta.TransferSyntaxUID
    entity.add_requested_context(dataset.SOPClassUID, syntax)
    link = entity.associate("127.0.0.1", receiver.port, ae_title=called)
    try:
        if not link.is_established:
            return "rejected" if link.is_rejected else "closed"
        status = link.send_c_store(dataset)
        return int(status.Status) if "Status" in status else "closed"
    finally:
        link.release() if link.is_established else link.abort()
        if link.dul.socket and link.dul.socket.socket:  # pynetdicom forgets it after a hang-up
            link.dul.socket.socket.close()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


@needs_orthanc
def test_orthanc_sends_and_the_image_lies_under_a_name_of_ours(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uid = short_uid()
    sent = image(uid, syntax=JPEG_2000_LOSSLESS)
    name = orthanc.take(sent)
    caplog.set_level(logging.INFO)
    with one_receiver(tmp_path, "ORTHANC@127.0.0.1", port=orthanc.ours) as receiver:
        assert orthanc.ask("/modalities/cxr/echo", {}).ok
        for _ in range(2):  # the second time it is there already
            assert orthanc.ask("/modalities/cxr/store", [name]).ok
    assert receiver.receipts.counts == {"stored": 2}
    (path,) = files(tmp_path)
    assert np.array_equal(read_image(path).pixels, read_image(sent).pixels)
    assert path.stat().st_mode & 0o777 == 0o600
    nobody_is_named(caplog.text + str(path.relative_to(tmp_path)), uid)


@needs_orthanc
def test_orthanc_is_turned_away_where_its_title_is_not_on_the_list(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    name = orthanc.take(image(short_uid()))
    with one_receiver(tmp_path, "PACS@127.0.0.1", port=orthanc.ours) as receiver:
        answer = orthanc.ask("/modalities/cxr/store", [name])
    assert answer.status_code == requests.codes.internal_server_error
    assert receiver.receipts.counts["refused title"] > 0
    assert not files(tmp_path)


def test_only_who_is_on_the_list_may_send(tmp_path: Path) -> None:
    data = image(short_uid())
    allowed = ("SENDER@127.0.0.1", "OTHER@10.9.8.0/24")
    with one_receiver(tmp_path, *allowed) as receiver:
        assert send(receiver, data, title="STRANGER") == "rejected"
        assert send(receiver, data, title="OTHER") == "rejected"  # on the list, from elsewhere
        assert send(receiver, data, called="SOMEBODY") == "rejected"
        assert not files(tmp_path)
        assert send(receiver, data) == 0
        assert len(files(tmp_path)) == 1
    with one_receiver(tmp_path / "b", "SENDER@10.9.8.0/24") as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as stranger:
            assert stranger.recv(1) == b""  # before anything was said
        assert receiver.receipts.counts == {"refused address": 1}


@pytest.mark.parametrize("uid", ["../../../evil", "/etc/passwd", "a/b", ".."])
def test_no_name_comes_from_the_wire(tmp_path: Path, uid: str) -> None:
    data = image("1.2.3")
    dataset = dcmread(BytesIO(data))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.StudyInstanceUID = uid
    buffer = BytesIO()
    dataset.save_as(buffer)
    with one_receiver(tmp_path / "in") as receiver:
        send(receiver, buffer.getvalue())
    assert all(path.suffix == ".dcm" and len(path.stem) == 20 for path in files(tmp_path / "in"))
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_what_cannot_be_kept_is_answered_with_its_status(tmp_path: Path) -> None:
    data = image(short_uid())
    with one_receiver(tmp_path / "full", keep_free=1 << 60) as receiver:
        assert send(receiver, data) == 0xA700
    without_study = dicom(ramp(12), BitsStored=12)
    with one_receiver(tmp_path / "odd") as receiver:
        assert send(receiver, without_study) == 0xC000
        assert receiver.receipts.counts == {"not understood": 1}
    with one_receiver(tmp_path / "small", max_bytes=1000) as receiver:
        assert send(receiver, dicom(ramp(16, rows=1000, columns=1000))) == "closed"
    assert not files(tmp_path)


def test_other_kinds_of_objects_are_not_taken(tmp_path: Path) -> None:
    write_phantom_dicom(tmp_path / "image.dcm", size=256)
    path = report(tmp_path / "sr.dcm", image=tmp_path / "image.dcm")
    with one_receiver(tmp_path / "in") as receiver:
        assert send(receiver, path.read_bytes()) == "closed"  # no context was accepted
    assert not files(tmp_path / "in")


def test_a_length_that_lies_and_a_silent_peer_hold_nothing(tmp_path: Path) -> None:
    with one_receiver(tmp_path, max_bytes=1 << 20, silence_seconds=1) as receiver:
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


def test_the_command_receives_until_it_is_told_to_end(tmp_path: Path) -> None:
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
    told = next(line for line in process.stderr if "listens at" in line)
    receiver = Receiver(int(told.split(" port ")[1].split(";")[0]), Receipts())
    uid = short_uid()
    assert send(receiver, image(uid)) == 0
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "1 stored\n")
    nobody_is_named(err, uid)
    assert len(files(tmp_path)) == 1


def recorded(receiver: Receiver, data: bytes) -> bytes:
    """What a sender says, from the first byte to the last."""
    heard = bytearray()

    def relay(sender: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := sender.recv(65_536):
                if to is not waiting:
                    heard.extend(part)
                to.sendall(part)
            to.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(3) as threads:
        sending = threads.submit(send, Receiver(server.getsockname()[1], Receipts()), data)
        waiting, _ = server.accept()
        with waiting, socket.create_connection(("127.0.0.1", receiver.port)) as onward:
            both = threads.submit(relay, waiting, onward), threads.submit(relay, onward, waiting)
            assert sending.result(30) == 0
            for one in both:
                one.result(30)
    return bytes(heard)


def test_senders_that_talk_nonsense_end_their_own_connection_only(tmp_path: Path) -> None:
    with one_receiver(tmp_path, silence_seconds=1) as receiver:
        said = recorded(receiver, image(short_uid()))
        greeting = 6 + struct.unpack(">L", said[2:6])[0]
        for number in range(10):
            what, random = bytearray(said[greeting:]), Random(number)  # noqa: S311
            for _ in range(3):  # within the message's first PDU: lengths, context, command
                what[random.randrange(120)] = random.randrange(256)
            with socket.create_connection(("127.0.0.1", receiver.port), timeout=20) as sender:
                sender.sendall(said[:greeting])
                assert sender.recv(65_536)[0] == 2  # accepted
                with contextlib.suppress(ConnectionError):
                    sender.sendall(what)
                    while sender.recv(65_536):
                        pass
        assert send(receiver, image(short_uid())) == 0
        assert receiver.receipts.counts["broken connection"] > 0
    assert not [path for path in files(tmp_path) if path.suffix != ".dcm"]


def test_one_receiver_a_folder_one_a_port_and_a_list(tmp_path: Path) -> None:
    (tmp_path / "dcm-1").mkdir()
    (tmp_path / "dcm-1" / ".ab.part").write_bytes(b"torn")
    with one_receiver(tmp_path) as receiver:
        assert not list(tmp_path.rglob("*.part"))
        with pytest.raises(HospitalError, match="another receiver"), one_receiver(tmp_path):
            pass
        taken = one_receiver(tmp_path / "b", port=receiver.port)
        with pytest.raises(HospitalError, match="choose another --port"), taken:
            pass
    with (
        pytest.raises(HospitalError, match="--allow"),
        receiving(tmp_path, title=OUR_TITLE, senders=()),
    ):
        pass


@pytest.mark.parametrize(
    "text", ["PACS", "@10.0.0.1", "PACS@", "PACS@server", "A" * 17 + "@1.2.3.4"]
)
def test_a_sender_is_a_title_and_an_address(text: str) -> None:
    with pytest.raises(HospitalError):
        Sender.parse(text)


def test_addresses_are_compared_as_addresses() -> None:
    one = Sender.parse("PACS@10.1.2.0/24")
    assert one.at("10.1.2.3")
    assert one.at("::ffff:10.1.2.3")
    assert not one.at("10.1.3.3")
    assert not one.at("fe80::1%eth0")
