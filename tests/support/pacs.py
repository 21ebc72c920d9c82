"""Images and reports of an invented person, a receiver and a sender for tests of the archive."""

import ssl
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE
from support.dicom_files import dicom, ramp
from support.made_up_reports import made_up_hits
from support.orthanc import OUR_TITLE

from rag.export import as_document
from rag.export.text import Export
from rag.pacs.receiver import Receiver, run_receiver
from rag.prediction import Prediction
from rag.review.reviewed_report import ReviewedReport, Signature
from rag.schema import Draft, DraftSentence, Status
from rag.settings import DicomSettings

NAMES = ("Quibblewick", "Thaddeus", "MRN-998877")
LOOPBACK = "127.0.0.0/8"
SETTINGS = DicomSettings(ae_title=OUR_TITLE)


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
    export = Export.from_prediction(prediction)
    if signed:
        by = Signature("Roe, Jane", "2026-01-02T03:04:05+01:00")
        export = Export(prediction, ReviewedReport.from_draft(drafted).accept([0]).sign(by))
    path.write_bytes(as_document(export, "dicom", image=image))
    return path


def assert_not_identified(text: str, *uids: str) -> None:
    assert not [secret for secret in (*NAMES, *uids) if secret.lower() in text.lower()]


def start_receiver(
    folder: Path,
    *allowed: str,
    settings: DicomSettings = SETTINGS,
    port: int = 0,
    **more: Any,
) -> AbstractContextManager[Receiver]:
    senders = allowed or (f"SENDER@{LOOPBACK}",)
    return run_receiver(folder, settings, senders=senders, port=port, **more)


def send(
    receiver: Receiver | int,
    data: bytes,
    *,
    title: str = "SENDER",
    called: str = OUR_TITLE,
    tls: ssl.SSLContext | None = None,
) -> int | str:
    """Send one C-STORE; returns its status, or how the association ended."""
    port = receiver if isinstance(receiver, int) else receiver.port
    dataset = dcmread(BytesIO(data))
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    syntax = dataset.file_meta.TransferSyntaxUID
    entity.add_requested_context(dataset.SOPClassUID, syntax)
    tls_args = (tls, "localhost") if tls else None
    link = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls_args)
    try:
        if not link.is_established:
            return "rejected" if link.is_rejected else "closed"
        status = link.send_c_store(dataset)
        return int(status.Status) if "Status" in status else "closed"
    finally:
        link.release() if link.is_established else link.abort()
        if link.dul.socket and link.dul.socket.socket:  # pynetdicom leaves it open on a hang-up
            link.dul.socket.socket.close()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
