"""Corrected images that are sent again, and notes that reject images."""

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from support.dicom_files import dicom, ramp
from support.pacs import files, image, send, short_uid, start_receiver
from support.rejections import note

from rag.batch.grouping import group_images
from rag.batch.inputs import list_images
from rag.pacs import PacsError
from rag.pacs.inbox import write_image

pytestmark = pytest.mark.slow


def corrected(study_uid: str, instance_uid: str, **attributes: object) -> bytes:
    return dicom(
        ramp(12, rows=64)[:, ::-1].copy(),
        BitsStored=12,
        StudyInstanceUID=study_uid,
        SeriesInstanceUID=f"{study_uid}.1",
        SOPInstanceUID=instance_uid,
        **attributes,
    )


def test_a_corrected_image_replaces_the_first(tmp_path: Path) -> None:
    uid = short_uid()
    with start_receiver(tmp_path) as receiver:
        assert send(receiver, image(uid)) == 0
        again = corrected(uid, f"{uid}.1.1", PatientID="RIGHT-7", PatientName="Right^One")
        assert send(receiver, again) == 0
    (path,) = files(tmp_path)
    written = dcmread(path)
    assert (written.PatientID, written.PatientName) == ("RIGHT-7", "Right^One")
    assert written.PixelData == dcmread(BytesIO(again)).PixelData


def test_an_image_sent_for_another_study_is_moved(tmp_path: Path) -> None:
    wrong, right = short_uid(), short_uid()
    write_image(tmp_path, image(wrong), instance_uid=f"{wrong}.1.1")
    path = write_image(tmp_path, corrected(right, f"{wrong}.1.1"), instance_uid=f"{wrong}.1.1")
    assert files(tmp_path) == [path]
    assert dcmread(path).StudyInstanceUID == right


WRITE_REPEATEDLY = """
import sys
from pathlib import Path
from rag.pacs.inbox import open_inbox, write_image
folder, image, uid = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), sys.argv[3]
for _ in range(60):
    open_inbox(folder)
    assert write_image(folder, image, instance_uid=uid).read_bytes() == image
"""


def test_two_processes_can_write_the_same_image(tmp_path: Path) -> None:
    uid = short_uid()
    (tmp_path / "image.dcm").write_bytes(image(uid))
    command = [
        sys.executable,
        "-c",
        WRITE_REPEATEDLY,
        str(tmp_path / "in"),
        str(tmp_path / "image.dcm"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [subprocess.Popen([*command, f"{uid}.1.1"], env=environment) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]


def test_a_failed_correction_keeps_the_first(tmp_path: Path) -> None:
    uid = short_uid()
    path = write_image(tmp_path, image(uid), instance_uid=f"{uid}.1.1")
    again = corrected(uid, f"{uid}.1.1")
    with pytest.raises(OSError, match="space"):
        write_image(tmp_path, again, instance_uid=f"{uid}.1.1", min_free_bytes=1 << 60)
    with pytest.raises(PacsError):
        write_image(tmp_path, b"nonsense", instance_uid=f"{uid}.1.1")
    assert path.read_bytes() == image(uid)


def test_rejected_images_are_not_reported(tmp_path: Path) -> None:
    uid = short_uid()
    kos = note(tmp_path / "kos.dcm", f"{uid}.1.2", study=uid)
    with start_receiver(tmp_path / "in") as receiver:
        for number in (1, 2):
            assert send(receiver, image(uid, number=number, InstanceNumber=number)) == 0
        assert send(receiver, kos.read_bytes()) == 0
    (study,), _ = group_images(list_images(tmp_path / "in").images)
    assert dcmread(study.source).InstanceNumber == 1
    assert len(study.rejected) == 1
