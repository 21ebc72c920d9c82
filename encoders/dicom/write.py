"""Clears pixel data of anything but the image, and writes drawn images as DICOM files (DX)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from encoders.dicom.codecs import decode
from encoders.dicom.header import raw_bytes
from encoders.dicom.layout import Layout, read_layout
from encoders.dicom.pixels import byte_order, is_compressed, read_codestream


def clear_unused_bits(dataset: Dataset) -> None:
    """Clear unused bits and bytes behind the last pixel, in place.

    The bits outside BitsStored and HighBit (PS3.5 8.1.1) can hold an overlay or anything else.
    Signed values keep their sign extension. A compressed image with such bits is stored
    uncompressed.

    Raises:
        CodecError: a frame with more bits than BitsStored cannot be decompressed.
    """
    if "PixelData" not in dataset:
        return
    layout, data = read_layout(dataset), raw_bytes(dataset, "PixelData")
    if is_compressed(dataset):
        if layout.samples != 1:
            return
        frames = [
            (frame, read_codestream(frame, dataset, layout))
            for frame in generate_frames(data, number_of_frames=layout.frames)
        ]
        if all(stream.bits <= layout.bits_stored for _, stream in frames):
            return
        bits = layout.bits_allocated
        decoded = np.stack([decode(frame, stream, bits_allocated=bits) for frame, stream in frames])
        unsigned = decoded.view(decoded.dtype.str.replace("i", "u"))
        values = unsigned.astype(f"u{bits // 8}")
        cleared = _clear_bits(values, layout)
        clean = np.array_equal(values, cleared)
    else:
        if layout.photometric == "YBR_FULL_422" or layout.bits_allocated not in (8, 16, 32):
            return
        size = layout.bits_allocated // 8
        count = layout.frames * layout.rows * layout.columns * layout.samples
        whole = data[: len(data) // size * size]
        cleared = _clear_bits(np.frombuffer(whole, f"{byte_order(dataset)}u{size}")[:count], layout)
        clean = _pad_to_even(cleared.tobytes()) == data
    if not clean:
        _store(dataset, cleared, layout)


def _clear_bits(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Unsigned values with only the bits of the image, and the sign extension."""
    width = values.dtype.itemsize * 8
    shift = max(layout.high_bit + 1 - layout.bits_stored, 0)
    mask = ((1 << layout.bits_stored) - 1) << shift
    cleared: NDArray[Any] = values & values.dtype.type(mask)
    if layout.signed and layout.high_bit < width - 1:
        above = ((1 << width) - 1) ^ ((1 << (layout.high_bit + 1)) - 1)
        negative = (cleared >> layout.high_bit) & 1 == 1
        cleared = np.where(negative, cleared | values.dtype.type(above), cleared)
    return cleared.astype(values.dtype, copy=False)


def _store(dataset: Dataset, values: NDArray[Any], layout: Layout) -> None:
    """Set uncompressed PixelData."""
    order = byte_order(dataset)
    if is_compressed(dataset):
        order = "<"
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    implicit = dataset.file_meta.get("TransferSyntaxUID") == ImplicitVRLittleEndian
    vr = "OW" if implicit or layout.bits_allocated > 8 else "OB"
    data = values.astype(f"{order}u{layout.bits_allocated // 8}").tobytes()
    dataset.add_new("PixelData", vr, _pad_to_even(data))
    dataset["PixelData"].is_undefined_length = False
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)


def _pad_to_even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def write_dx(
    path: Path,
    stored: NDArray[np.uint16],
    *,
    bits: int,
    spacing_mm: float,
    patient_name: str,
    patient_id: str,
    description: str,
) -> None:
    """Write a PA chest X-ray (DX, MONOCHROME2, uncompressed), with a window over its whole depth.

    Args:
        path: the file; replaced if it exists.
        stored: uint16 [rows, columns], high values are white.
        bits: BitsStored.
        spacing_mm: distance of pixel centres.
        patient_name: family name, caret, given name (PS3.5 6.2.1).
        patient_id: the UIDs of study and image are derived from it.
        description: SeriesDescription.
    """
    dataset = Dataset()
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[patient_id, "image"])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[patient_id, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[patient_id, "series"])
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["DERIVED", "SECONDARY", ""]
    dataset.PatientName, dataset.PatientID = patient_name, patient_id
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyDate = dataset.StudyTime = dataset.StudyID = ""
    dataset.AccessionNumber = dataset.ReferringPhysicianName = dataset.Laterality = ""
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.SeriesDescription = description
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PatientOrientation = ["L", "F"]
    dataset.Manufacturer = "cxr-rag"
    dataset.BurnedInAnnotation = "YES"
    dataset.LossyImageCompression = "00"
    dataset.ImagerPixelSpacing = dataset.PixelSpacing = [round(spacing_mm, 6)] * 2
    _set_pixels(dataset, stored, bits)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def _set_pixels(dataset: Dataset, stored: NDArray[np.uint16], bits: int) -> None:
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 1 << (bits - 1), 1 << bits
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.PixelData = stored.astype("<u2").tobytes()
