"""DICOMweb against a real Orthanc: fetching studies, storing reports."""

import contextlib
import logging
import shutil
import subprocess
import threading
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage
from support.dicom_files import JPEG_2000_LOSSLESS
from support.orthanc import Orthanc, needs_orthanc
from support.pacs import (
    assert_not_identified,
    files,
    image,
    report,
    short_uid,
)
from support.rejections import note
from typer.testing import CliRunner

from demo.phantom import write_phantom_dicom
from encoders.image_io import read_image
from rag.batch.grouping import group_images
from rag.batch.inputs import list_images
from rag.cli.main import app
from rag.pacs import PacsError
from rag.pacs.dicomweb import fetch_study, find_studies_of_day, store_report
from reading_room.worklist import dicomweb_fetcher

pytestmark = pytest.mark.slow


@needs_orthanc
def test_fetched_images_have_equal_pixels_and_logs_no_identifier(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uid, other = short_uid(), short_uid()
    sent = [image(uid), image(uid, number=2, syntax=JPEG_2000_LOSSLESS, ViewPosition="LL")]
    for one in (*sent, image(other)):
        orthanc.store(one)
    caplog.set_level(logging.INFO)

    images, problems = fetch_study(orthanc.dicomweb, uid, tmp_path / "in")

    assert (len(images), problems) == (2, [])
    originals = {read.pixels.tobytes() for read in map(read_image, sent)}
    assert {read_image(path).pixels.tobytes() for path in images} == originals
    syntaxes = {dcmread(path).file_meta.TransferSyntaxUID for path in images}
    assert JPEG_2000_LOSSLESS in syntaxes  # not decompressed
    assert {path.stat().st_mode & 0o777 for path in images} == {0o600}
    assert_not_identified(caplog.text + str(images), uid)
    (study,), _ = group_images(list_images(tmp_path / "in").images)  # as `cxr-rag batch` does
    assert len(study.other_views) == 1
    assert fetch_study(orthanc.dicomweb, uid, tmp_path / "in") == (images, [])
    assert len(files(tmp_path / "in")) == 2


@needs_orthanc
def test_todays_radiographs_are_fetched_for_the_worklist(orthanc: Orthanc, tmp_path: Path) -> None:
    today, yesterday = date.today(), date.today() - timedelta(days=1)
    uids = [short_uid() for _ in range(3)]
    orthanc.store(image(uids[0], StudyDate=f"{today:%Y%m%d}", Modality="DX"))
    orthanc.store(image(uids[1], StudyDate=f"{yesterday:%Y%m%d}", Modality="DX"))
    orthanc.store(image(uids[2], StudyDate=f"{today:%Y%m%d}", Modality="CT"))
    found = find_studies_of_day(orthanc.dicomweb, today)
    assert found[uids[0]] in (0, 1)
    assert not {uids[1], uids[2]} & found.keys()
    dicomweb_fetcher(orthanc.dicomweb, tmp_path)()
    fetched_uids = {str(dcmread(path).StudyInstanceUID) for path in tmp_path.rglob("*.dcm")}
    assert uids[0] in fetched_uids
    assert not {uids[1], uids[2]} & fetched_uids


@needs_orthanc
@pytest.mark.parametrize("signed", [False, True])
def test_a_stored_report_is_unchanged(
    orthanc: Orthanc, tmp_path: Path, caplog: pytest.LogCaptureFixture, signed: bool
) -> None:
    uid = short_uid()
    (tmp_path / "image.dcm").write_bytes(image(uid))
    orthanc.store(image(uid))
    path = report(tmp_path / "sr.dcm", image=tmp_path / "image.dcm", signed=signed)
    caplog.set_level(logging.INFO)

    stored = store_report(orthanc.dicomweb, path)

    expected = ("COMPLETE", "VERIFIED") if signed else ("PARTIAL", "UNVERIFIED")
    assert stored == expected
    assert_not_identified(caplog.text, uid)
    ids = orthanc.request(
        "/tools/find", {"Level": "Instance", "Query": {"Modality": "SR", "StudyInstanceUID": uid}}
    )
    (name,) = ids.json()
    back = dcmread(BytesIO(orthanc.request(f"/instances/{name}/file").content))
    assert back.SOPClassUID == ComprehensiveSRStorage
    assert (back.CompletionFlag, back.VerificationFlag) == expected
    assert back == dcmread(path)
    back.save_as(tmp_path / "back.dcm")
    second_reader = shutil.which("dsrdump")
    assert second_reader, "dcmtk is not installed; `make test` installs or names it"
    subprocess.run([second_reader, tmp_path / "back.dcm"], check=True, capture_output=True)
    # the report in the same study is not fetched
    images, problems = fetch_study(orthanc.dicomweb, uid, tmp_path / "in")
    assert (len(images), problems) == (1, [])


@needs_orthanc
@pytest.mark.parametrize("command", ["dicomweb", "dimse"])
def test_a_study_with_only_a_note_has_no_images(
    orthanc: Orthanc, tmp_path: Path, command: str
) -> None:
    uid = short_uid()
    orthanc.store(note(tmp_path / "kos.dcm", f"{uid}.1.1", study=uid).read_bytes())
    archive = f"{orthanc.title}@127.0.0.1:{orthanc.dicom_port}"
    server = orthanc.dicomweb if command == "dicomweb" else archive
    run = CliRunner().invoke(app, [command, "fetch", server, uid, str(tmp_path / "in")])
    assert (run.exit_code, run.output[:9]) == (3, "0 images ")
    assert len(files(tmp_path / "in")) == 1


@needs_orthanc
def test_the_commands_fetch_and_store(orthanc: Orthanc, tmp_path: Path) -> None:
    uid = short_uid()
    orthanc.store(image(uid))
    run = CliRunner().invoke(
        app, ["dicomweb", "fetch", orthanc.dicomweb, uid, str(tmp_path / "in")]
    )
    assert run.exit_code == 0
    assert run.output.startswith("1 images in ")
    assert_not_identified(run.output, uid)
    (fetched,) = (tmp_path / "in").rglob("*.dcm")
    path = report(tmp_path / "sr.dcm", image=fetched)
    run = CliRunner().invoke(app, ["dicomweb", "store", orthanc.dicomweb, str(path)])
    assert run.output == "stored: PARTIAL, UNVERIFIED\n"


@needs_orthanc
def test_an_unknown_study_is_an_error(orthanc: Orthanc, tmp_path: Path) -> None:
    with pytest.raises(PacsError, match="no instance of this study"):
        fetch_study(orthanc.dicomweb, "1.2.3.4.5", tmp_path)


@pytest.mark.parametrize(
    ("url", "uid", "words"),
    [
        ("http://10.0.0.1/dicom-web", "1.2", "in the clear"),
        ("https://me:secret@server/dicom-web", "1.2", "netrc"),
        ("ftp://server/", "1.2", "looks like"),
        ("http://127.0.0.1:9/dicom-web", "1.2", "nothing answers"),
        ("http://127.0.0.1:9/dicom-web", "../../etc", "not a valid UID"),
    ],
)
def test_unsafe_urls_and_uids_are_refused(tmp_path: Path, url: str, uid: str, words: str) -> None:
    with pytest.raises(PacsError, match=words) as error:
        fetch_study(url, uid, tmp_path)
    assert "secret" not in str(error.value)


class HostileServer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        moved = self.path.startswith("/moved/")
        body = bytes(0 if moved else 3_000_000)
        if self.path.startswith("/named/"):
            self.send_error(404, "Quibblewick^Thaddeus")
            return
        self.send_response(302 if moved else 200)
        self.send_header("Location", "/dicom-web/studies")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("moved/", "redirects to another"),
        ("named/", "HTTP status 404 Not Found$"),
        ("", "longer than 1 MB"),
    ],
)
def test_redirects_and_long_responses_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.setattr("rag.pacs.http.MAX_BYTES", 1 << 20)
    with ThreadingHTTPServer(("127.0.0.1", 0), HostileServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(PacsError, match=words):
                fetch_study(f"http://127.0.0.1:{server.server_port}/{path}", "1.2", tmp_path)
        finally:
            server.shutdown()  # or its thread spins on a closed socket


def test_a_report_with_inconsistent_flags_is_not_sent(tmp_path: Path) -> None:
    write_phantom_dicom(tmp_path / "image.dcm", size=256)
    path = report(tmp_path / "sr.dcm", image=tmp_path / "image.dcm")
    document = dcmread(path)
    for completion, verification in [("PARTIAL", "VERIFIED"), ("COMPLETE", "UNVERIFIED")]:
        document.CompletionFlag, document.VerificationFlag = completion, verification
        document.save_as(path)
        with pytest.raises(PacsError, match="PARTIAL and UNVERIFIED"):
            store_report("http://127.0.0.1:9/dicom-web", path)
    with pytest.raises(PacsError, match="nothing else is sent"):
        store_report("http://127.0.0.1:9/dicom-web", image_with_report_flags(tmp_path))
    with pytest.raises(PacsError, match="not a DICOM structured report"):
        store_report("http://127.0.0.1:9/dicom-web", Path(__file__))


def image_with_report_flags(folder: Path) -> Path:
    """An image with the flags of a report."""
    dataset = dcmread(folder / "image.dcm")
    dataset.CompletionFlag, dataset.VerificationFlag = "PARTIAL", "UNVERIFIED"
    dataset.save_as(folder / "odd.dcm")
    return folder / "odd.dcm"
