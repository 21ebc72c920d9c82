"""C-FIND, C-GET and C-MOVE against a real Orthanc, and TLS both ways."""

import contextlib
import gc
import logging
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from support.dicom_files import JPEG_2000_LOSSLESS, dicom, ramp
from support.orthanc import OUR_TITLE, Orthanc, needs_orthanc, running_orthanc
from support.pacs import (
    SETTINGS,
    assert_not_identified,
    files,
    image,
    send,
    short_uid,
    start_receiver,
)
from typer.testing import CliRunner

from demo.phantom import write_phantom_dicom
from encoders.image_io import read_image
from rag.cli.main import app
from rag.errors import UsageError
from rag.export import as_document
from rag.export.text import Export
from rag.pacs import PacsError
from rag.pacs.association import Archive, tls_context
from rag.pacs.dicomweb import store_report
from rag.pacs.dimse import FoundStudy, fetch_images, find_priors, find_studies
from rag.settings import DicomSettings
from rag.study import Study, pseudonym

if TYPE_CHECKING:
    from support.small_room import Room

pytestmark = pytest.mark.slow


def archive_of(server: Orthanc, *, host: str = "127.0.0.1") -> Archive:
    return Archive(server.title, host, server.dicom_port)


def instance(study_uid: str, patient: str, date: str, **attributes: object) -> bytes:
    attributes.setdefault("Modality", "DX")
    return dicom(
        ramp(12, rows=64),
        BitsStored=12,
        PatientID=patient,
        PatientName="Quibblewick^Thaddeus",
        StudyDate=date,
        StudyInstanceUID=study_uid,
        SeriesInstanceUID=f"{study_uid}.1",
        SOPInstanceUID=f"{study_uid}.1.1",
        **attributes,
    )


@needs_orthanc
def test_priors_are_earlier_chest_images_of_the_same_patient(orthanc: Orthanc) -> None:
    uids = [short_uid() for _ in range(6)]
    patient = f"P{uids[0][-8:]}"
    for uid, number, date, modality in zip(
        uids,
        [patient, patient, patient, patient, patient, patient + "X"],
        ["20260301", "20240105", "20250210", "20270101", "20250211", "20250212"],
        ["DX", "CR", "DX", "DX", "CT", "DX"],
        strict=True,
    ):
        orthanc.store(instance(uid, number, date, Modality=modality))
    archive = archive_of(orthanc)
    (current,) = find_studies(archive, SETTINGS, study_uid=uids[0])
    assert (current.patient_id, current.taken_at[:8]) == (patient, "20260301")
    assert len(find_studies(archive, SETTINGS, patient_id=patient)) == 5
    priors = find_priors(archive, SETTINGS, current, limit=5)
    assert [prior.uid for prior in priors] == [uids[2], uids[1]]
    assert len(find_priors(archive, SETTINGS, current, limit=1)) == 1


@pytest.mark.parametrize("wildcard", ["*", "MRN?", "A\\B", ""])
def test_wildcards_are_refused(wildcard: str) -> None:
    with pytest.raises(PacsError, match="without wildcards"):
        find_studies(Archive("PACS", "127.0.0.1", 1), SETTINGS, patient_id=wildcard)


@pytest.mark.parametrize(
    ("taken_at", "earlier"),
    [
        ("20260228235959", True),
        ("20260301080000", True),
        ("20260301130000", False),
        ("20260301", False),  # the same day, time unknown
        ("", False),
    ],
)
def test_priors_are_earlier_than_the_study(
    monkeypatch: pytest.MonkeyPatch, taken_at: str, *, earlier: bool
) -> None:
    current = FoundStudy("1.2", patient_id="P", taken_at="20260301120000")
    other = FoundStudy("1.3", patient_id="P", taken_at=taken_at)
    monkeypatch.setattr("rag.pacs.dimse.find_studies", lambda *_, **__: [current, other])
    priors = find_priors(Archive("PACS", "127.0.0.1", 1), SETTINGS, current, limit=2)
    assert priors == ([other] if earlier else [])


def test_priors_need_patient_id_and_date() -> None:
    with pytest.raises(PacsError, match="PatientID"):
        find_priors(Archive("PACS", "127.0.0.1", 1), SETTINGS, FoundStudy("1.2"), limit=1)


@needs_orthanc
@pytest.mark.parametrize("operation", ["get", "move"])
def test_images_keep_their_transfer_syntax(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    uid = short_uid()
    sent = [image(uid), image(uid, number=2, syntax=JPEG_2000_LOSSLESS)]
    for one in sent:
        orthanc.store(one)
    caplog.set_level(logging.INFO)
    images, problems = fetch_images(
        archive_of(orthanc),
        SETTINGS,
        [uid],
        tmp_path / "in",
        move_to=("127.0.0.1", orthanc.destination_port) if operation == "move" else None,
    )
    assert not problems
    assert {read_image(path).pixels.tobytes() for path in images} == {
        read_image(one).pixels.tobytes() for one in sent
    }
    assert sorted(images) == files(tmp_path / "in")
    assert {len(path.read_bytes()) > 2 * 64 * 64 for path in images} == {
        True,
        False,
    }  # not decompressed
    assert_not_identified(caplog.text, uid)


@needs_orthanc
def test_only_images_fetched_now_are_returned(orthanc: Orthanc, tmp_path: Path) -> None:
    uid = short_uid()  # not in the archive
    earlier = tmp_path / pseudonym(uid) / "earlier.dcm"
    earlier.parent.mkdir()
    earlier.write_bytes(image(uid))
    assert fetch_images(archive_of(orthanc), SETTINGS, [uid], tmp_path) == ([], [])


@needs_orthanc
def test_find_move_draft_and_store(orthanc: Orthanc, room: "Room", tmp_path: Path) -> None:
    write_phantom_dicom(tmp_path / "phantom.dcm", seed=1, size=256)
    phantom = dcmread(tmp_path / "phantom.dcm")
    phantom.PatientID, phantom.StudyDate = f"R{short_uid()[-8:]}", "20260301"
    phantom.save_as(tmp_path / "phantom.dcm")
    orthanc.store((tmp_path / "phantom.dcm").read_bytes())
    archive = archive_of(orthanc)

    (study,) = find_studies(archive, SETTINGS, patient_id=str(phantom.PatientID))
    our_address = ("127.0.0.1", orthanc.destination_port)
    (path,), _ = fetch_images(archive, SETTINGS, [study.uid], tmp_path / "in", move_to=our_address)
    prediction = room.pipeline.invoke(Study(source=path, name="image"))
    report = tmp_path / "report.sr.dcm"
    report.write_bytes(as_document(Export.from_prediction(prediction), "dicom", image=path))
    assert store_report(orthanc.dicomweb, report) == ("PARTIAL", "UNVERIFIED")

    (study,) = find_studies(archive, SETTINGS, study_uid=study.uid)
    assert set(study.modalities) == {"DX", "SR"}
    images, problems = fetch_images(archive, SETTINGS, [study.uid], tmp_path / "again")
    assert (len(images), problems) == (1, [])  # the report is not fetched


@needs_orthanc
def test_the_commands_find_and_fetch_with_priors(orthanc: Orthanc, tmp_path: Path) -> None:
    current, prior = short_uid(), short_uid()
    patient = f"Q{current[-8:]}"
    orthanc.store(instance(current, patient, "20260301"))
    orthanc.store(instance(prior, patient, "20250301"))
    archive = f"{orthanc.title}@127.0.0.1:{orthanc.dicom_port}"
    found = CliRunner().invoke(app, ["dimse", "find", archive, "--patient-id", patient])
    assert {line.split("\t")[0] for line in found.stdout.splitlines()} == {current, prior}
    out = str(tmp_path / "in")
    fetched = CliRunner().invoke(app, ["dimse", "fetch", archive, current, out, "--priors", "2"])
    assert (fetched.exit_code, fetched.stdout.splitlines()[0]) == (
        0,
        f"2 images in {out}; 1 priors",
    )
    assert_not_identified(fetched.output.replace(out, ""), current, prior, patient)
    with pytest.raises(PacsError, match="does not know this study"):
        CliRunner().invoke(
            app, ["dimse", "fetch", archive, short_uid(), out], catch_exceptions=False
        )


@needs_orthanc
def test_errors_of_an_archive_are_explained(orthanc: Orthanc, tmp_path: Path) -> None:
    stranger = DicomSettings(ae_title="STRANGER")
    with pytest.raises(PacsError, match="hung up"):
        find_studies(archive_of(orthanc), stranger, patient_id="1")
    with (
        start_receiver(tmp_path / "in") as receiver,
        pytest.raises(PacsError, match="it must know our AE title STRANGER"),
    ):
        find_studies(Archive("PACS", "127.0.0.1", receiver.port), stranger, patient_id="1")
    uid = short_uid()
    orthanc.store(image(uid))
    elsewhere = DicomSettings(ae_title="CXRRAG")
    _, problems = fetch_images(
        archive_of(orthanc), elsewhere, [uid], tmp_path, move_to=("127.0.0.1", 0)
    )
    assert len(problems) == 1  # it sends to its configured port, where nobody listens


# pynetdicom leaves the socket of a refused connection to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_closed_port_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = Archive("PACS", "127.0.0.1", silent.getsockname()[1])
    with pytest.raises(PacsError, match="nothing answers there"):
        find_studies(nobody, SETTINGS, patient_id="1")
    gc.collect()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA with certificates for both sides, and a self-signed one."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    for name in ("ca", "stranger"):
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    for name in ("ours", "peer"):
        signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key")
        alias = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        files_of = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        openssl(*new, *signed_by, *alias, "-subj", f"/CN={name}", *files_of)
    return folder


def with_tls(folder: Path, name: str = "ours") -> DicomSettings:
    return DicomSettings(
        ae_title=OUR_TITLE,
        tls_certificate=folder / f"{name}.pem",
        tls_key=folder / f"{name}.key",
        tls_authority=folder / "ca.pem",
    )


@pytest.fixture(scope="module")
def encrypted(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), tls=certificates) as server:
        yield server


@needs_orthanc
@pytest.mark.parametrize("operation", ["get", "move"])
def test_with_certificates_all_associations_are_encrypted(
    encrypted: Orthanc, certificates: Path, tmp_path: Path, operation: str
) -> None:
    uid = short_uid()
    encrypted.store(image(uid))
    images, problems = fetch_images(
        archive_of(encrypted),
        with_tls(certificates),
        [uid],
        tmp_path,
        move_to=("127.0.0.1", encrypted.destination_port) if operation == "move" else None,
    )
    assert (len(images), problems) == (1, [])


@needs_orthanc
def test_an_archive_with_an_untrusted_certificate_is_refused(
    encrypted: Orthanc, certificates: Path
) -> None:
    for settings in (SETTINGS, with_tls(certificates, "stranger")):
        with pytest.raises(PacsError, match=r"hangs up|hung up"):
            find_studies(archive_of(encrypted), settings, patient_id="1")


def test_a_receiver_with_tls_refuses_plain_text_and_is_not_blocked(
    tmp_path: Path, certificates: Path
) -> None:
    settings = with_tls(certificates)
    with (
        start_receiver(tmp_path, settings=settings, idle_timeout_s=2) as receiver,
        socket.create_connection(("127.0.0.1", receiver.port)),  # silent before its handshake
    ):
        assert send(receiver, image(short_uid())) == "closed"
        peer = tls_context(with_tls(certificates, "peer"), server=False)
        assert send(receiver, image(short_uid()), tls=peer) == 0
        unknown = tls_context(with_tls(certificates, "stranger"), server=False)
        with contextlib.suppress(OSError):
            assert send(receiver, image(short_uid()), tls=unknown) == "closed"
    assert len(files(tmp_path)) == 1


def test_invalid_certificate_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no")
    for name in ("ours", "missing"):
        with pytest.raises(PacsError, match="PEM"):
            tls_context(with_tls(tmp_path, name), server=True)


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "PACS@host:0", "@host:104", "PACS@:104"])
def test_archive_parsing(text: str) -> None:
    with pytest.raises(UsageError):
        Archive.parse(text)
    assert Archive.parse("PACS@[::1]:104") == Archive("PACS", "::1", 104)
