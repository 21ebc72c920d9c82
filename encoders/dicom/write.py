"""Writes an image of our own as a DICOM file.

Owns the DX object (PS3.3 A.26, For Presentation) as far as a drawn image needs it. Not for images
of patients: it knows no acquisition.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)


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
