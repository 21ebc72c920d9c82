"""The folder for images from the network: one folder per study, one file per image.

File names are digests of UIDs, so that no sender can choose a path. An image that is sent again
replaces the earlier file, because archives correct images this way. Files are written atomically,
with mode 0600 in folders of mode 0700.
"""

import errno
import hashlib
import os
import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from encoders.image_io import read_image_info
from encoders.images.image_info import ImageFormat
from encoders.images.raw_image import ImageReadError
from rag.atomic_io import explain_disk_errors, write_bytes_atomic
from rag.pacs import PacsError
from rag.study import pseudonym

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
"""Not an image, but a note about some, which can reject them (`rag.batch`)."""

SOP_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray, for processing
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture, and its multi-frame kinds
    "1.2.840.10008.5.1.4.1.1.7.1",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.7.4",
    KEY_OBJECT_SELECTION,
)
"""What is fetched and received (PS3.4 B.5): chest X-rays, and notes about them."""

MIN_FREE_BYTES = 256 * 1024 * 1024
"""Disk space that is left for others."""

_UID = re.compile(r"[0-9.]{1,64}")


def open_inbox(folder: Path) -> None:
    """Create the folder, and delete files that were left incomplete by a kill.

    Raises:
        OutputError: it cannot be written.
    """
    with explain_disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _write_lock(folder):
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
    """Write an image, replacing an earlier one of the same UID in any study.

    Args:
        folder: inbox.
        data: a DICOM file.
        instance_uid: announced SOPInstanceUID.
        study_uid: requested StudyInstanceUID; empty for any.
        min_free_bytes: disk space that must stay free.

    Returns:
        Its path, which contains nothing from the header.

    Raises:
        PacsError: not a DICOM file with a study, or of another study.
        OSError: the disk is full or cannot be written; an earlier image is kept.
    """
    study = study_uid_of(data)
    if study_uid and study != study_uid:
        raise PacsError("the image is of another study than the one requested")
    name = hashlib.sha256(f"cxr-rag image {instance_uid}".encode()).hexdigest()[:20]
    path = folder / pseudonym(study) / f"{name}.dcm"
    if shutil.disk_usage(folder).free < len(data) + min_free_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _write_lock(folder):
        write_bytes_atomic(path, data, mode=0o600)
        for earlier in folder.glob(f"*/{path.name}"):
            if earlier != path:  # it was in a wrong study before
                earlier.unlink(missing_ok=True)
    return path


def _write_lock(folder: Path) -> AbstractContextManager[object]:
    """Two senders, or two processes of ours, may write the same image."""
    from filelock import FileLock  # noqa: PLC0415 - imports asyncio

    return FileLock(folder / ".filing.lock", mode=0o600)


def check_uid(uid: str) -> str:
    """Return the UID if it is valid (PS3.5 9.1).

    Raises:
        PacsError: it is not.
    """
    if not _UID.fullmatch(uid):
        raise PacsError(
            "not a valid UID: give the StudyInstanceUID (0020,000D), up to 64 digits and dots"
        )
    return uid


def study_uid_of(data: bytes) -> str:
    """StudyInstanceUID of a DICOM file.

    Raises:
        PacsError: it is not one, or has none.
    """
    try:
        info = read_image_info(data)
    except ImageReadError as error:
        raise PacsError(f"what was sent cannot be read: {error.reason.value}") from None
    if info.format is not ImageFormat.DICOM or not info.study_uid:
        raise PacsError("what was sent is not a DICOM file with a StudyInstanceUID (0020,000D)")
    return info.study_uid
