"""A report in the forms that others read: text, PDF, DICOM SR, FHIR, HL7 v2.

The last three name their patient, as the image's header does, and are for the systems that the
image came from; `as_document` makes them.
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
"""Of a document's file name."""


def as_document(what: "Export", form: DocumentFormat, *, image: Path | bytes) -> bytes:
    """The report as a file of one of `DOCUMENT_FORMATS`.

    Args:
        what: the report as it stands.
        form: which document.
        image: the DICOM file it is of, whose header names patient and study.

    Raises:
        StructuredReportError: the image is no DICOM file, does not say which study it is of, or
            has something in its header that no document can be made with.
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
        return write(what, header, notes)
    except Exception as error:
        # what the libraries say may quote the header: the class alone is told
        logger.debug("no document", exc_info=error)
        raise StructuredReportError(
            f"no document can be made of this image's header ({type(error).__name__}): export "
            "as PDF or text instead"
        ) from None
