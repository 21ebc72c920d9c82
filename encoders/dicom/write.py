"""Writes pixel data again, cleared of what is no image, and drawn images as DICOM files (DX)."""

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
from encoders.dicom.header import content
from encoders.dicom.layout import Layout, read_layout
from encoders.dicom.pixels import byte_order, codestream_of, is_compressed


def clear_unused_bits(dataset: Dataset) -> None:
    """Clear what stands beside the image, in place: unused bits, bytes behind the last pixel.

    Old writers kept overlays, and anybody can keep anything, in the bits that BitsStored and
    HighBit leave over (PS3.5 8.1.1). Signed values keep their sign extension, which repeats a bit
    of the image. A compressed image that hides something is stored uncompressed.

    Raises:
        CodecError: a frame that may hide something cannot be decompressed.
    """
    if "PixelData" not in dataset:
        return
    layout, data = read_layout(dataset), content(dataset, "PixelData")
    if is_compressed(dataset):
        if layout.samples != 1:
            return
        frames = [
            (frame, codestream_of(frame, dataset, layout))
            for frame in generate_frames(data, number_of_frames=layout.frames)
        ]
        if all(stream.bits <= layout.stored for _, stream in frames):
            return
        decoded = np.stack([decode(*each, allocated=layout.allocated) for each in frames])
        unsigned = decoded.view(decoded.dtype.str.replace("i", "u"))
        values = unsigned.astype(f"u{layout.allocated // 8}")
        cleared = _cleared(values, layout)
        clean = np.array_equal(values, cleared)
    else:
        if layout.photometric == "YBR_FULL_422" or layout.allocated not in (8, 16, 32):
            return
        size = layout.allocated // 8
        count = layout.frames * layout.rows * layout.columns * layout.samples
        whole = data[: len(data) // size * size]
        cleared = _cleared(np.frombuffer(whole, f"{byte_order(dataset)}u{size}")[:count], layout)
        clean = _even(cleared.tobytes()) == data
    if not clean:
        _store(dataset, cleared, layout)


def _cleared(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Unsigned values with only the bits that are image, in their own type."""
    width = values.dtype.itemsize * 8
    shift = max(layout.high_bit + 1 - layout.stored, 0)
    mask = ((1 << layout.stored) - 1) << shift
    cleared: NDArray[Any] = values & values.dtype.type(mask)
    if layout.signed and layout.high_bit < width - 1:
        above = ((1 << width) - 1) ^ ((1 << (layout.high_bit + 1)) - 1)
        negative = (cleared >> layout.high_bit) & 1 == 1
        cleared = np.where(negative, cleared | values.dtype.type(above), cleared)
    return cleared.astype(values.dtype, copy=False)


def _store(dataset: Dataset, values: NDArray[Any], layout: Layout) -> None:
    """Values as the uncompressed PixelData of the same data set."""
    order = byte_order(dataset)
    if is_compressed(dataset):
        order = "<"
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    implicit = dataset.file_meta.get("TransferSyntaxUID") == ImplicitVRLittleEndian
    vr = "OW" if implicit or layout.allocated > 8 else "OB"
    data = values.astype(f"{order}u{layout.allocated // 8}").tobytes()
    dataset.add_new("PixelData", vr, _even(data))
    dataset["PixelData"].is_undefined_length = False
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)


def _even(data: bytes) -> bytes:
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
    """Write a PA chest X-ray (DX, MONOCHROME2, uncompressed), window over the whole depth.

    Args:
        path: the file; replaced if it exists.
        stored: uint16 [rows, columns], high values are white.
        bits: BitsStored.
        spacing_mm: distance of pixel centres.
        patient_name: as PS3.5 6.2.1 writes it: family name, caret, given name.
        patient_id: identifiers of study and image are derived from it, the same every time.
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
    _describe_pixels(dataset, stored, bits)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def _describe_pixels(dataset: Dataset, stored: NDArray[np.uint16], bits: int) -> None:
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 1 << (bits - 1), 1 << bits
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.PixelData = stored.astype("<u2").tobytes()
