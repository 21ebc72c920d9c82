"""Which elements of a DICOM header are removed, pseudonyms, and the search for identifiers left.

The profile is PS3.15 Annex E, Basic Profile, edition 2026c, from the package dicom-anonymizer. In
addition, text elements that its table does not list are kept only if they are on an allow-list,
because they may contain anything; private and unknown elements, overlays and curves are removed.

Pseudonyms are HMAC-SHA-256 of a key: equal for equal values, and not reversible. With a key file a
patient gets the same pseudonym in every run; whoever has the file can test guesses, so it is as
secret as the originals. Without one the key is lost when the process ends.
"""

import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from dicomanonymizer.simpledicomanonymizer import initialize_actions
from pydicom.datadict import dictionary_has_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from encoders.images.image_info import is_latin, name_parts
from rag.atomic_io import explain_disk_errors, write_text_atomic
from rag.errors import CxrRagError

EDITION = "dicomfields_2026c"

Rules = dict[tuple[int, ...], Callable[[Dataset, tuple[int, ...]], None]]

_TEXT_VRS = frozenset(
    {"AE", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UN", "UR", "UT"}
)
"""Text and times, which may identify somebody."""
_DICOM_UID_ROOT = "1.2.840.10008."
_KEPT_TAGS = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        *("SpecificCharacterSet", "ImageType", "Modality", "ConversionType", "Manufacturer"),
        *("ManufacturerModelName", "PresentationIntentType", "BodyPartExamined", "ViewPosition"),
        *("PatientOrientation", "Laterality", "ImageLaterality", "PhotometricInterpretation"),
        *("PixelIntensityRelationship", "PresentationLUTShape", "VOILUTFunction", "ShutterShape"),
        *("LossyImageCompression", "LossyImageCompressionMethod", "BurnedInAnnotation"),
        *("RecognizableVisualFeatures", "QualityControlImage", "FieldOfViewHorizontalFlip"),
        *("FieldOfViewShape", "CollimatorShape", "DetectorType", "RescaleType", "ModalityLUTType"),
        *("CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion"),
        *("CodeMeaning", "PatientSex", "PositionerType", "PixelSpacingCalibrationType"),
    )
)
"""Text elements that are kept: defined terms, codes, the manufacturer."""

_RESCALE_TYPES = frozenset({"OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})
_STANDARD_SCHEMES = frozenset(
    {"DCM", "SRT", "SCT", "SNM3", "99SDM", "LN", "UCUM", "RADLEX", "FMA", "NCIt"}
)
"""Public coding schemes; in a private one the code meaning is free text."""

_IDENTIFYING_KEYWORDS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber", "StudyID"),
    *("PatientID", "OtherPatientIDs", "PatientBirthDate"),
)
_SEARCHED_VRS = _TEXT_VRS - {"PN", "TM"} | {"UI"}
_MIN_LATIN_LETTERS = 4

MAX_SHIFT_DAYS = 5 * 365
_KEY = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})(.*)", re.DOTALL)


@lru_cache(maxsize=1)
def profile_rules() -> Rules:
    """Action of the profile by tag; it replaces UIDs by random ones."""
    rules: Rules = initialize_actions(EDITION)
    for tag in dicom_anonymization_database_selector(EDITION)["X_Z_U_STAR_TAGS"]:
        del rules[tag]  # references to images: their items are de-identified like any other
    return rules


@lru_cache(maxsize=1)
def uid_tags() -> tuple[tuple[int, ...], ...]:
    """Tags of the UIDs to replace."""
    return tuple(dicom_anonymization_database_selector(EDITION)["U_TAGS"])


def nested_datasets(dataset: Dataset) -> Iterator[Dataset]:
    """All nested data sets, innermost first, and the data set itself last.

    A malformed element raises here.
    """
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                yield from nested_datasets(item)
    yield dataset


def drop_unlisted_elements(dataset: Dataset) -> None:
    """Remove overlays, curves, private and unknown elements; unlisted text, times and UIDs.

    UIDs of the standard itself and SOP class UIDs are kept.
    """
    rules = profile_rules()
    for element in list(dataset):
        tag = element.tag
        is_curve_or_overlay = 0x5000 <= tag.group < 0x5100 or 0x6000 <= tag.group < 0x6100
        is_unknown = tag.is_private or not dictionary_has_tag(tag)
        is_listed = tag in _KEPT_TAGS or (tag.group, tag.element) in rules
        may_identify = not is_listed and (element.VR in _TEXT_VRS or _is_instance_uid(element))
        is_padding = tag == 0xFFFCFFFC
        if is_curve_or_overlay or is_unknown or is_padding or may_identify:
            del dataset[tag]
    for keyword in ("RescaleType", "ModalityLUTType"):
        if keyword in dataset and str(dataset[keyword].value) not in _RESCALE_TYPES:
            dataset[keyword].value = "US"
    if "CodeMeaning" in dataset and dataset.get("CodingSchemeDesignator") not in _STANDARD_SCHEMES:
        dataset.CodeMeaning = dataset.get("CodeValue") or "-"


def _is_instance_uid(element: DataElement) -> bool:
    """Whether an element has a UID that is not the standard's, such as of a study or an image."""
    if element.VR != "UI" or element.keyword.endswith("ClassUID"):
        return False
    return any(not value.startswith(_DICOM_UID_ROOT) for value in _values(element))


class HeaderIdentifiers:
    """The names and ids in a header, to find what is left of them in elements and bytes.

    Latin ones of four characters or more, as whole words; in other scripts two characters or more.
    """

    def __init__(self, dataset: Dataset) -> None:
        elements = (
            e for e in dataset.iterall() if e.VR == "PN" or e.keyword in _IDENTIFYING_KEYWORDS
        )
        parts = name_parts(*(value for element in elements for value in _values(element)))
        latin = [part for part in parts if is_latin(part) and len(part) >= _MIN_LATIN_LETTERS]
        others = [part for part in parts if not is_latin(part)]
        any_latin = "|".join(sorted(map(re.escape, latin)))
        patterns = [rf"(?<![^\W_])(?<!\d\.)(?:{any_latin})(?![^\W_])"] if latin else []
        patterns += sorted(map(re.escape, others))
        self._pattern = re.compile("|".join(patterns) or r"(?!)")
        self._bytes = {encoded for part in others for encoded in _encode(part)}

    def in_element(self, element: DataElement) -> bool:
        """Whether an element contains one of them."""
        value = element.value
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        return element.VR in _SEARCHED_VRS and bool(self._pattern.search(text.lower()))

    def in_bytes(self, header: bytes) -> bool:
        """Whether the bytes of a header contain one of them, in any encoding of DICOM."""
        if any(encoded in header for encoded in self._bytes):
            return True
        return bool(self._pattern.search(header.decode("latin-1").lower()))


def _values(element: DataElement) -> list[str]:
    value = element.value
    if value is None or value == "":
        return []
    return [str(item) for item in value] if element.VM > 1 else [str(value)]


def _encode(text: str) -> Iterator[bytes]:
    for encoding in ("utf-8", "gb18030", "euc_kr", "shift_jis"):
        with suppress(UnicodeEncodeError):
            yield text.encode(encoding)


class KeyFileError(CxrRagError):
    """The file is not a key file, or cannot be read."""


class Pseudonyms:
    """Derives pseudonyms from a key of 32 bytes, by default a random one."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)

    @classmethod
    def from_key_file(cls, path: Path) -> "Pseudonyms":
        """Use the key in a file; a missing file is created, mode 0600, with a new key.

        Raises:
            KeyFileError: the file is not a key file, or cannot be read.
            OutputError: it cannot be written.
        """
        if not path.exists():
            with explain_disk_errors(path):
                write_text_atomic(path, secrets.token_hex(32) + "\n", mode=0o600)
        try:
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(f"the key file {path} cannot be read") from error
        if not _KEY.fullmatch(text):
            raise KeyFileError(
                f"{path} is not a key file, which holds one line of 64 hexadecimal digits; give "
                "the path of a new file to create one"
            )
        return cls(bytes.fromhex(text))

    def uid(self, uid: str) -> str:
        """The pseudonym of a UID (PS3.5 B.2)."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=4).int}"

    def patient(self, identity: str) -> str:
        """The pseudonymous PatientID; empty for an empty identity."""
        return f"P{self._digest('patient', identity).hex()[:16].upper()}" if identity else ""

    def shift_date(self, value: str, *, identity: str) -> str | None:
        """A date (VR DA or DT) moved back, by the same days for all dates of a patient.

        None if it is not a date, or the patient is unknown: a shift common to all unknown patients
        would link them.
        """
        match = _DATE.fullmatch(value.strip())
        if not match or not identity:
            return None
        days = 1 + int.from_bytes(self._digest("days", identity)[:8]) % MAX_SHIFT_DAYS
        try:
            shifted = date(*map(int, match.groups()[:3])) - timedelta(days=days)
        except (ValueError, OverflowError):
            return None
        return f"{shifted:%Y%m%d}{match[4]}"

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{value}".encode(), hashlib.sha256)
