"""Exports of a report: text, PDF, DICOM SR, FHIR, HL7 v2.

The last three, made by `as_document`, name the patient as the image's header does. They are for the
systems that the image came from.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from rag.export.text import Export

logger = logging.getLogger(__name__)

DocumentFormat = Literal["dicom", "fhir", "hl7"]
DOCUMENT_FORMATS: tuple[DocumentFormat, ...] = get_args(DocumentFormat)
FILE_SUFFIXES = {"dicom": "sr.dcm", "fhir": "fhir.json", "hl7": "hl7"}


def as_document(export: "Export", form: DocumentFormat, *, image: Path | bytes) -> bytes:
    """The content of a document file.

    Args:
        export: the report.
        form: DICOM SR, FHIR or HL7.
        image: the reported DICOM file, whose header names patient and study.

    Raises:
        StructuredReportError: the image is not a DICOM file, does not name its study, or has a
            header that the document cannot be made of.
    """
    from rag.export.dicom_header import (  # noqa: PLC0415 - pydicom
        StructuredReportError,
        copy_header,
    )

    # each of the three libraries takes a second or two to import
    if form == "dicom":
        from rag.export.dicom_sr import write_sr as write  # noqa: PLC0415
    elif form == "fhir":
        from rag.export.fhir import write_fhir as write  # noqa: PLC0415
    else:
        from rag.export.hl7_v2 import write_hl7 as write  # noqa: PLC0415
    header, notes = copy_header(image)
    try:
        return write(export, header, notes)
    except Exception as error:
        # the message may quote the header
        logger.debug("no document", exc_info=error)
        raise StructuredReportError(
            f"no document can be made of this image's header ({type(error).__name__}): export "
            "as PDF or text instead"
        ) from None
