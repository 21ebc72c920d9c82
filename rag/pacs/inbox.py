"""Where images from the network are put: a folder a study, a file an image, names of our own.

Owns the names and the writing. A name is a digest of the UID it stands for, never a text from the
wire, so that no sender chooses a path, and an image that is sent twice is one file: the one that
came last, because archives correct an image by sending it again. A file is whole or not there.
Files and folders are for their owner alone (0600, 0700).
"""

import errno
import hashlib
import os
import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from encoders.images.image_info import ImageFormat
from encoders.images.image_io import read_image_info
from encoders.images.raw_image import ImageReadError
from rag.atomic_io import explain_disk_errors, write_bytes_atomic
from rag.pacs import PacsError
from rag.study import pseudonym

IMAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray, for processing
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture, and its multi-frame kinds
    "1.2.840.10008.5.1.4.1.1.7.1",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.7.4",
)
"""SOP classes that a chest X-ray can be (PS3.4 B.5); nothing else is fetched or received."""

KEY_OBJECT_CLASSES = ("1.2.840.10008.5.1.4.1.1.88.59",)
"""Key Object Selection: by it a department takes an image out of use (`rag.batch.grouping`)."""

MIN_FREE_BYTES = 256 * 1024 * 1024
"""Bytes of the disk that are left alone: whoever shares it must still be able to write."""

_UID = re.compile(r"[0-9.]{1,64}")


def open_inbox(folder: Path) -> None:
    """Make the folder, and delete what a kill left half written in it.

    Raises:
        OutputError: the disk refuses.
    """
    with explain_disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _filing(folder):
            for part in folder.glob("*/.*.new"):
                part.unlink(missing_ok=True)


def write_image(
    folder: Path,
    data: bytes,
    *,
    instance_uid: str,
    study_uid: str = "",
    min_free_bytes: int = MIN_FREE_BYTES,
) -> Path:
    """Write an image, in place of an earlier one of the same UID in whatever study.

    Args:
        folder: of `open_inbox`.
        data: a DICOM file.
        instance_uid: SOPInstanceUID that was announced.
        study_uid: StudyInstanceUID that was asked for; empty takes the image's own.
        min_free_bytes: bytes that stay free on the disk.

    Returns:
        Its path, which holds nothing of the image's header.

    Raises:
        PacsError: this is no DICOM file with a study, or one of another study.
        OSError: the disk is full, or refuses; nothing is left of the image, and an earlier one
            stays.
    """
    study = study_uid_of(data)
    if study_uid and study != study_uid:
        raise PacsError("the image is of another study than the one that was asked for")
    name = hashlib.sha256(f"cxr-rag image {instance_uid}".encode()).hexdigest()[:20]
    path = folder / pseudonym(study) / f"{name}.dcm"
    if shutil.disk_usage(folder).free < len(data) + min_free_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _filing(folder):
        write_bytes_atomic(path, data, mode=0o600)
        for earlier in folder.glob(f"*/{path.name}"):
            if earlier != path:  # it was filed in a wrong study before
                earlier.unlink(missing_ok=True)
    return path


def _filing(folder: Path) -> AbstractContextManager[object]:
    """One at a time: two senders may send the same image, also to two processes of ours."""
    from filelock import FileLock  # noqa: PLC0415 - imports asyncio

    return FileLock(folder / ".filing.lock", mode=0o600)


def check_uid(uid: str) -> str:
    """The UID, if it is one (PS3.5 9.1).

    Raises:
        PacsError: it holds something else than digits and dots, or too much.
    """
    if not _UID.fullmatch(uid):
        raise PacsError(
            "this is no UID: it has up to 64 digits and dots, as StudyInstanceUID (0020,000D)"
        )
    return uid


def study_uid_of(data: bytes) -> str:
    """StudyInstanceUID of a DICOM file.

    Raises:
        PacsError: it is none, or has none.
    """
    try:
        facts = read_image_info(data)
    except ImageReadError as error:
        raise PacsError(f"what was sent cannot be read: {error.reason.value}") from None
    if facts.format is not ImageFormat.DICOM or not facts.study_uid:
        raise PacsError("what was sent is no DICOM file with a StudyInstanceUID (0020,000D)")
    return facts.study_uid
