"""A real Orthanc for tests: DICOM, REST and DICOMweb on free local ports."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from support.ports import free_port

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
PLUGIN = next(Path("/usr").glob("*/orthanc/libOrthancDicomWeb.so*"), None) or next(
    Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so*"), None
)
needs_orthanc = pytest.mark.skipif(
    PROGRAM is None or PLUGIN is None,
    reason="no real DICOM server: Orthanc (Debian package orthanc-dicomweb) is not installed",
)
OUR_TITLE = "CXRRAG"


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running server.

    Attributes:
        title: its AE title.
        http_port, dicom_port: where it listens.
        destination_port: the port that it sends to as ``cxr``; there it calls `OUR_TITLE`.
    """

    http_port: int
    dicom_port: int
    destination_port: int
    title: str = "ORTHANC"

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    def request(self, path: str, body: Any = None) -> requests.Response:
        """A GET request to its REST API; with a body, a POST."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        if body is None:
            return requests.get(url, timeout=30)
        if isinstance(body, bytes):
            return requests.post(url, data=body, timeout=30)
        return requests.post(url, json=body, timeout=30)

    def store(self, image: bytes) -> str:
        """Store an instance; returns its id in Orthanc."""
        answer = self.request("/instances", image)
        answer.raise_for_status()
        return str(answer.json()["ID"])


@contextmanager
def running_orthanc(folder: Path, *, tls: Path | None = None) -> Iterator[Orthanc]:
    """Start a server.

    Args:
        folder: for its database.
        tls: folder with ``peer.pem``, ``peer.key`` and ``ca.pem``: DICOM with TLS only.
    """
    server = Orthanc(free_port(), free_port(), free_port())
    settings = {
        "Name": "tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": server.http_port,
        "DicomPort": server.dicom_port,
        "DicomAet": server.title,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomScuTimeout": 10,
        "DicomModalities": {
            "cxr": {
                "AET": OUR_TITLE,
                "Host": "localhost" if tls else "127.0.0.1",
                "Port": server.destination_port,
                "UseDicomTls": tls is not None,
            }
        },
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    if tls:
        settings |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(tls / "peer.pem"),
            "DicomTlsPrivateKey": str(tls / "peer.key"),
            "DicomTlsTrustedCertificates": str(tls / "ca.pem"),
        }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([str(PROGRAM), str(path)], stdout=log, stderr=log)
    try:
        _wait(server, process, folder / "orthanc.log")
        yield server
    finally:
        process.terminate()
        process.wait(20)


def _wait(server: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if server.request("/dicom-web/studies").ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc did not start: {log.read_text()[-2000:]}")
