"""Copies of DICOM files without identifiers, by the Basic Profile of PS3.15 Annex E.

Of each copy: its elements, UIDs and patient (`rag.privacy.header`), what hides beside its pixels, a
new file header, and a last look whether one of the image's own identifiers is left anywhere. Dates
are removed unless they are to be moved; writing on the image (`rag.privacy.burned_in`) is looked
for and said.
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
from encoders.images.image_info import SIGNATURE_BYTES, ImageFormat, image_format
from encoders.images.image_io import read_image
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
_CODES = {  # PS3.16 CID 7050
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}
_SEEN = {
    "RecognizableVisualFeatures": "a face can be recognised",
    "BurnedInAnnotation": "there is writing on the image",
}


class DeidentifyError(CxrRagError):
    """A file that was not copied, because it could not be made safe."""


@dataclass(frozen=True, slots=True)
class DeidentifiedCopy:
    """One copy.

    Attributes:
        path: of the copy: a folder a study, a file an image, named by their new UIDs.
        warnings: what a person must look at.
    """

    path: Path
    warnings: tuple[str, ...] = ()


class Deidentifier:
    """Copies files; equal UIDs and patients get equal new ones.

    Args:
        pseudonyms: where the new ones come from; by default of a key that nobody keeps.
        shift_dates: move dates, by as much for all dates of a patient, instead of removing them.
    """

    def __init__(self, pseudonyms: Pseudonyms | None = None, *, shift_dates: bool = False) -> None:
        self._pseudonyms = pseudonyms or Pseudonyms()
        self._shift_dates = shift_dates
        self._written: set[Path] = set()

    def copy(self, source: Path, folder: Path) -> DeidentifiedCopy:
        """Write a copy without identifiers below ``folder``.

        Raises:
            DeidentifyError: no DICOM file, or one that cannot be made safe; nothing was written.
            OutputError: the disk refuses.
        """
        try:
            data = source.read_bytes()
        except OSError as error:
            raise DeidentifyError(f"cannot be opened: {error.strerror}") from error
        if image_format(data[:SIGNATURE_BYTES]) is not ImageFormat.DICOM:
            raise DeidentifyError("is no DICOM file; only DICOM has a profile to go by")
        try:
            dataset = parse(data, whole=True)
            names = HeaderIdentifiers(dataset)
            warnings = self._clean(dataset, names, data)
            path = self._path(dataset, folder, warnings)
            written = _written(dataset, names)
        except DeidentifyError:
            raise
        except (ImageReadError, CodecError) as error:
            raise DeidentifyError(str(error)) from error
        except Exception as error:  # noqa: BLE001 - pydicom raises a dozen kinds
            # its words may quote the header: the class alone is told
            raise DeidentifyError(
                f"cannot be made safe ({type(error).__name__}): an element of it is malformed"
            ) from None
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes_atomic(path, written)
        self._written.add(path)
        return DeidentifiedCopy(path, tuple(warnings))

    def _path(self, dataset: Dataset, folder: Path, warnings: list[str]) -> Path:
        """Where the copy goes; never where another file of this run went."""
        path = folder / str(dataset.StudyInstanceUID) / f"{dataset.SOPInstanceUID}.dcm"
        if path not in self._written:
            return path
        dataset.SOPInstanceUID = generate_uid()
        warnings.append("another file bears the same SOPInstanceUID: this copy has one of its own")
        return path.with_name(f"{dataset.SOPInstanceUID}.dcm")

    def _clean(self, dataset: Dataset, names: HeaderIdentifiers, data: bytes) -> list[str]:
        """Make a dataset and everything within it safe, in place; what a person must look at."""
        patient = _patient_of(dataset)
        warnings = _what_is_seen(dataset, data)
        clear_unused_bits(dataset)
        rules = self._rules(patient)
        for nested in nested_datasets(dataset):
            drop_unlisted_elements(nested)
            anonymize_dataset(nested, base_rules_gen=lambda: rules)
            _drop_names(nested, names)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            if not dataset.get(keyword):
                setattr(dataset, keyword, generate_uid())
        dataset.PatientID = dataset.PatientName = self._pseudonyms.patient(patient)
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = METHOD
        shifted = self._shift_dates and bool(patient)
        dataset.LongitudinalTemporalInformationModified = "MODIFIED" if shifted else "REMOVED"
        codes = ["113100", "113107"] if shifted else ["113100"]
        dataset.DeidentificationMethodCodeSequence = [_method(value) for value in codes]
        syntax = dataset.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian
        dataset.file_meta = FileMetaDataset()  # the old one may name application entities
        dataset.file_meta.TransferSyntaxUID = UID(str(syntax))
        dataset.preamble = bytes(128)
        return warnings

    def _rules(self, patient: str) -> Rules:
        rules: Rules = {**profile_rules(), **dict.fromkeys(uid_tags(), self._renumber)}
        if not self._shift_dates:
            return rules
        return {tag: self._shifting(rule, patient) for tag, rule in rules.items()}

    def _renumber(self, dataset: Dataset, tag: tuple[int, ...]) -> None:
        element = dataset.get(tag)  # type: ignore[arg-type]  # a pair of numbers is a tag
        if element is not None and element.value:
            values = [element.value] if element.VM == 1 else list(element.value)
            new = [self._pseudonyms.uid(str(value)) for value in values]
            element.value = new[0] if len(new) == 1 else new

    def _shifting(self, rule: Any, patient: str) -> Any:
        """A rule that moves a date, and else does what the profile says."""

        def shift(dataset: Dataset, tag: tuple[int, ...]) -> None:
            element = dataset.get(tag) if len(tag) == 2 else None
            if (
                element is not None
                and element.VR in ("DA", "DT")
                and element.VM == 1
                and element.keyword != "PatientBirthDate"
            ):
                moved = self._pseudonyms.shift_date(str(element.value), identity=patient)
                if moved is not None:
                    element.value = moved
                    return
            rule(dataset, tag)

        return shift


def _what_is_seen(dataset: Dataset, data: bytes) -> list[str]:
    """What a person must look at on the image: writing, a face."""
    warnings = [
        f"its header says that {what} ({keyword} is YES)"
        for keyword, what in _SEEN.items()
        if str(dataset.get(keyword, "")).upper() == "YES"
    ]
    try:
        if has_burned_in_text(read_image(data).pixels):
            warnings.append(WARNING)
    except ImageReadError as error:
        warnings.append(f"its pixels were not looked at: {error.reason.value}")
    return warnings


def is_dicom_object(path: Path) -> bool:
    """Whether a file is DICOM, by content, and no DICOMDIR, which lists the originals."""
    head = b""
    with suppress(OSError):
        if path.is_file() and path.name.upper() != "DICOMDIR":
            with path.open("rb") as file:
                head = file.read(SIGNATURE_BYTES)
    return image_format(head) is ImageFormat.DICOM


def _patient_of(dataset: Dataset) -> str:
    """Whose file it is: PatientID and who issued it, else name and birth date; empty if unknown."""
    number = str(dataset.get("PatientID") or "").strip()
    if number:
        return f"{number}|{str(dataset.get('IssuerOfPatientID') or '').strip()}"
    name = str(dataset.get("PatientName") or "").strip().lower().rstrip("^")
    return f"{name}|{dataset.get('PatientBirthDate') or ''}" if name else ""


def _drop_names(dataset: Dataset, names: HeaderIdentifiers) -> None:
    """Names of persons, and whatever else still holds an identifier of this image."""
    for element in list(dataset):
        if element.VR == "PN" and element.value:
            element.value = ""
        elif names.in_element(element):
            del dataset[element.tag]


def _method(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = value, "DCM"
    item.CodeMeaning = _CODES[value]
    return item


def _written(dataset: Dataset, names: HeaderIdentifiers) -> bytes:
    """The file as it will be, after a last look at it without its pixels."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    written = buffer.getvalue()
    start = written.find(b"\xe0\x7f\x10\x00")
    if names.in_bytes(written[: start if start > 0 else None]):
        raise DeidentifyError(
            "still holds one of its identifiers, in a place that was not foreseen"
        )
    return written
