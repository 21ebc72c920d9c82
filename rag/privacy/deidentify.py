"""Copies DICOM files without identifiers, by the Basic Profile of PS3.15 Annex E.

Removes or replaces header elements (`rag.privacy.header`), clears unused bits of the pixels, writes
a new file header, and refuses a copy that still contains one of its identifiers. Dates are removed
or, on request, shifted; text on the image (`rag.privacy.burned_in`) causes a warning.
"""

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicomanonymizer.simpledicomanonymizer import anonymize_dataset
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid

from encoders.dicom.codecs import CodecError
from encoders.dicom.header import parse
from encoders.dicom.write import clear_unused_bits
from encoders.image_io import read_image
from encoders.images.image_info import SIGNATURE_BYTES, ImageFormat, image_format
from encoders.images.raw_image import ImageReadError
from rag.atomic_io import explain_disk_errors, write_bytes_atomic
from rag.errors import CxrRagError
from rag.privacy.burned_in import WARNING, has_burned_in_text
from rag.privacy.header import (
    HeaderIdentifiers,
    Pseudonyms,
    Rules,
    drop_unlisted_elements,
    nested_datasets,
    profile_rules,
    uid_tags,
)

METHOD = "cxr-rag, PS3.15 Basic Profile 2026c"
_METHOD_CODES = {  # PS3.16 CID 7050
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}
_FLAG_WARNINGS = {
    "RecognizableVisualFeatures": "a face can be recognised",
    "BurnedInAnnotation": "there is writing on the image",
}


class DeidentifyError(CxrRagError):
    """A file that was not copied because it cannot be de-identified."""


@dataclass(frozen=True, slots=True)
class DeidentifiedCopy:
    """One copy.

    Attributes:
        path: ``<new StudyInstanceUID>/<new SOPInstanceUID>.dcm`` in the output folder.
        warnings: what a person must look at.
    """

    path: Path
    warnings: tuple[str, ...] = ()


class Deidentifier:
    """Copies files; equal UIDs and patients get equal pseudonyms.

    Args:
        pseudonyms: by default of a random key that is not kept.
        shift_dates: move all dates of a patient by the same time instead of removing them.
    """

    def __init__(self, pseudonyms: Pseudonyms | None = None, *, shift_dates: bool = False) -> None:
        self._pseudonyms = pseudonyms or Pseudonyms()
        self._shift_dates = shift_dates
        self._written_paths: set[Path] = set()

    def copy(self, source: Path, folder: Path) -> DeidentifiedCopy:
        """Write a copy without identifiers below ``folder``.

        Raises:
            DeidentifyError: not a DICOM file, or one that cannot be de-identified; nothing was
                written.
            OutputError: the copy cannot be written.
        """
        try:
            data = source.read_bytes()
        except OSError as error:
            raise DeidentifyError(f"cannot be opened: {error.strerror}") from error
        if image_format(data[:SIGNATURE_BYTES]) is not ImageFormat.DICOM:
            raise DeidentifyError("is not a DICOM file; only DICOM has a de-identification profile")
        try:
            dataset = parse(data, whole=True)
            identifiers = HeaderIdentifiers(dataset)
            warnings = self._clean(dataset, identifiers, data)
            path = self._new_path(dataset, folder, warnings)
            content = _encode(dataset, identifiers)
        except DeidentifyError:
            raise
        except (ImageReadError, CodecError) as error:
            raise DeidentifyError(str(error)) from error
        except Exception as error:  # noqa: BLE001 - pydicom raises a dozen kinds
            # its message may quote the header
            raise DeidentifyError(
                f"cannot be de-identified ({type(error).__name__}): an element is malformed"
            ) from None
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(path, content)
        self._written_paths.add(path)
        return DeidentifiedCopy(path, tuple(warnings))

    def _new_path(self, dataset: Dataset, folder: Path, warnings: list[str]) -> Path:
        """Where the copy goes; never over another copy of this run."""
        path = folder / str(dataset.StudyInstanceUID) / f"{dataset.SOPInstanceUID}.dcm"
        if path not in self._written_paths:
            return path
        dataset.SOPInstanceUID = generate_uid()
        warnings.append("another file has the same SOPInstanceUID: this copy has one of its own")
        return path.with_name(f"{dataset.SOPInstanceUID}.dcm")

    def _clean(self, dataset: Dataset, identifiers: HeaderIdentifiers, data: bytes) -> list[str]:
        """De-identify a data set in place; returns warnings."""
        patient = _patient_identity(dataset)
        warnings = _image_warnings(dataset, data)
        clear_unused_bits(dataset)
        rules = self._element_rules(patient)
        for nested in nested_datasets(dataset):
            drop_unlisted_elements(nested)
            anonymize_dataset(nested, base_rules_gen=lambda: rules)
            _drop_identifiers(nested, identifiers)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            if not dataset.get(keyword):
                setattr(dataset, keyword, generate_uid())
        dataset.PatientID = dataset.PatientName = self._pseudonyms.patient(patient)
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = METHOD
        shifted = self._shift_dates and bool(patient)
        dataset.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"
        codes = ["113100", "113107"] if shifted else ["113100"]
        dataset.DeidentificationMethodCodeSequence = [_method_item(value) for value in codes]
        syntax = dataset.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian
        dataset.file_meta = FileMetaDataset()  # the old one may name application entities
        dataset.file_meta.TransferSyntaxUID = UID(str(syntax))
        dataset.preamble = bytes(128)
        return warnings

    def _element_rules(self, patient: str) -> Rules:
        rules: Rules = {**profile_rules(), **dict.fromkeys(uid_tags(), self._replace_uid)}
        if not self._shift_dates:
            return rules
        return {tag: self._date_shifting(rule, patient) for tag, rule in rules.items()}

    def _replace_uid(self, dataset: Dataset, tag: tuple[int, ...]) -> None:
        element = dataset.get(tag)  # type: ignore[arg-type]  # a pair of numbers is a tag
        if element is not None and element.value:
            values = [element.value] if element.VM == 1 else list(element.value)
            new = [self._pseudonyms.uid(str(value)) for value in values]
            element.value = new[0] if len(new) == 1 else new

    def _date_shifting(self, rule: Any, patient: str) -> Any:
        """The rule of the profile, except that it shifts dates."""

        def shift(dataset: Dataset, tag: tuple[int, ...]) -> None:
            element = dataset.get(tag) if len(tag) == 2 else None
            if (
                element is not None
                and element.VR in ("DA", "DT")
                and element.VM == 1
                and element.keyword != "PatientBirthDate"
            ):
                shifted = self._pseudonyms.shift_date(str(element.value), identity=patient)
                if shifted is not None:
                    element.value = shifted
                    return
            rule(dataset, tag)

        return shift


def _image_warnings(dataset: Dataset, data: bytes) -> list[str]:
    warnings = [
        f"its header says that {warning} ({keyword} is YES)"
        for keyword, warning in _FLAG_WARNINGS.items()
        if str(dataset.get(keyword, "")).upper() == "YES"
    ]
    try:
        if has_burned_in_text(read_image(data).pixels):
            warnings.append(WARNING)
    except ImageReadError as error:
        warnings.append(f"its pixels were not looked at: {error.reason.value}")
    return warnings


def is_dicom_object(path: Path) -> bool:
    """Whether a file is DICOM, by its content, and not a DICOMDIR."""
    head = b""
    with suppress(OSError):
        if path.is_file() and path.name.upper() != "DICOMDIR":
            with path.open("rb") as file:
                head = file.read(SIGNATURE_BYTES)
    return image_format(head) is ImageFormat.DICOM


def _patient_identity(dataset: Dataset) -> str:
    """PatientID and its issuer, else name and birth date; empty if unknown."""
    number = str(dataset.get("PatientID") or "").strip()
    if number:
        return f"{number}|{str(dataset.get('IssuerOfPatientID') or '').strip()}"
    name = str(dataset.get("PatientName") or "").strip().lower().rstrip("^")
    return f"{name}|{dataset.get('PatientBirthDate') or ''}" if name else ""


def _drop_identifiers(dataset: Dataset, identifiers: HeaderIdentifiers) -> None:
    """Empty person names; remove any other element that still contains an identifier."""
    for element in list(dataset):
        if element.VR == "PN" and element.value:
            element.value = ""
        elif identifiers.in_element(element):
            del dataset[element.tag]


def _method_item(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, "DCM"
    item.CodeMeaning = _METHOD_CODES[value]
    return item


def _encode(dataset: Dataset, identifiers: HeaderIdentifiers) -> bytes:
    """The file's bytes, searched for identifiers up to its pixels.

    Raises:
        DeidentifyError: one is left.
    """
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    pixels = content.find(b"\xe0\x7f\x10\x00")
    if identifiers.in_bytes(content[: pixels if pixels > 0 else None]):
        raise DeidentifyError("would still contain one of its identifiers, in an unexpected place")
    return content
