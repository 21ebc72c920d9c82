"""Images with header values that the standard forbids."""

import warnings
from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from support.dicom_files import dicom, ramp

UIDS = {
    "StudyInstanceUID": "1.2.826.0.1.7",
    "SeriesInstanceUID": "1.2.826.0.1.7.1",
    "BitsStored": 12,
}


def odd_image(path: Path, **stored: bytes) -> Path:
    """A ramp with values as they stand in the file, whatever the standard says of them."""
    path.write_bytes(dicom(ramp(12), **UIDS))
    dataset = pydicom.dcmread(path)
    for keyword, value in stored.items():
        tag, vr = tag_for_keyword(keyword), dictionary_VR(keyword)
        raw = RawDataElement(Tag(tag or 0), vr, len(value), value, 0, False, True)
        dataset[tag] = raw
    with warnings.catch_warnings(action="ignore"):  # the writer complains, and writes
        dataset.save_as(path)
    return path
