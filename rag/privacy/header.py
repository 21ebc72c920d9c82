"""What becomes of each element of a header, what stands in its place, and whether one still names.

The profile is PS3.15 Annex E, Basic Profile, in the standard's edition 2026c, as the package
dicom-anonymizer carries it. Added here: free text and coded words that the table leaves are kept
only by name, because anybody can write anything there; private and unknown elements, overlays and
curves go.

Pseudonyms are derived from a key (HMAC-SHA-256): the same for the same, and no way back. With a key
file the same patient gets the same pseudonym in every run; whoever has the file can test guesses,
so it is a secret like the originals. Without one the key lives as long as the process.
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

_WORDS = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "UN", "PN"})
_MOMENTS = frozenset({"DA", "DT", "TM"})
_STANDARDS_UIDS = "1.2.840.10008."
_KEPT = frozenset(
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
"""Text that the profile leaves and a reader of images needs: defined terms, codes, the maker."""

_UNITS = frozenset({"OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})
_SCHEMES = frozenset({"DCM", "SRT", "SCT", "SNM3", "99SDM", "LN", "UCUM", "RADLEX", "FMA", "NCIt"})
"""Coding schemes of the standard; in one of one's own a meaning is free text."""

_IDENTIFIERS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber", "StudyID"),
    *("PatientID", "OtherPatientIDs", "PatientBirthDate"),
)
_TEXT = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "UI", "DA", "DT", "UN"})
_LONG = 4

MAX_SHIFT_DAYS = 5 * 365
_KEY = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})(.*)", re.DOTALL)


@lru_cache(maxsize=1)
def profile_rules() -> Rules:
    """What the profile does, by tag; UIDs by the package's own random ones."""
    rules: Rules = initialize_actions(EDITION)
    return rules


@lru_cache(maxsize=1)
def uid_tags() -> tuple[tuple[int, ...], ...]:
    """Tags of the UIDs that are replaced, consistently."""
    return tuple(dicom_anonymization_database_selector(EDITION)["U_TAGS"])


def nested_datasets(dataset: Dataset) -> Iterator[Dataset]:
    """All data sets within one, and it last. A malformed element raises here."""
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                yield from nested_datasets(item)
    yield dataset


def drop_unlisted_elements(dataset: Dataset) -> None:
    """Overlays, curves, private elements, those of no dictionary, free text, moments and UIDs.

    A UID of the standard's own, or of a class of objects, says nothing about a patient and stays.
    """
    table = profile_rules()
    for element in list(dataset):
        tag = element.tag
        repeats = 0x5000 <= tag.group < 0x5100 or 0x6000 <= tag.group < 0x6100
        unknown = tag.is_private or not dictionary_has_tag(tag)
        unlisted = tag not in _KEPT and (tag.group, tag.element) not in table
        free = unlisted and (element.VR in _WORDS or element.VR in _MOMENTS or _is_own_uid(element))
        if repeats or unknown or free or tag == 0xFFFCFFFC:
            del dataset[tag]
    for keyword in ("RescaleType", "ModalityLUTType"):
        if keyword in dataset and str(dataset[keyword].value) not in _UNITS:
            dataset[keyword].value = "US"
    if "CodeMeaning" in dataset and dataset.get("CodingSchemeDesignator") not in _SCHEMES:
        dataset.CodeMeaning = dataset.get("CodeValue") or "-"


def _is_own_uid(element: DataElement) -> bool:
    """Whether an element holds a UID of somebody's, as of a study or of an image."""
    if element.VR != "UI" or element.keyword.endswith("ClassUID"):
        return False
    return any(not value.startswith(_STANDARDS_UIDS) for value in _values(element))


class HeaderIdentifiers:
    """The names and numbers in a header, to find them in its texts and bytes.

    Latin ones of four letters or more, as words of their own; of other scripts, two letters.
    """

    def __init__(self, dataset: Dataset) -> None:
        naming = (e for e in dataset.iterall() if e.VR == "PN" or e.keyword in _IDENTIFIERS)
        parts = name_parts(*(value for element in naming for value in _values(element)))
        latin = sorted(re.escape(part) for part in parts if is_latin(part) and len(part) >= _LONG)
        others = sorted(re.escape(part) for part in parts if not is_latin(part))
        whole = [rf"(?<![^\W_])(?<!\d\.)(?:{'|'.join(latin)})(?![^\W_])"] if latin else []
        self._pattern = re.compile("|".join([*whole, *others]) or r"(?!)")
        self._bytes = {
            encoded for part in parts if not is_latin(part) for encoded in _encoded(part)
        }

    def in_element(self, element: DataElement) -> bool:
        """Whether an element still names somebody."""
        value = element.value
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        return element.VR in _TEXT and bool(self._pattern.search(text.lower()))

    def in_bytes(self, header: bytes) -> bool:
        """Whether bytes of a file do, in one of the encodings of DICOM."""
        if any(name in header for name in self._bytes):
            return True
        return bool(self._pattern.search(header.decode("latin-1").lower()))


def _values(element: DataElement) -> list[str]:
    value = element.value
    if value is None or value == "":
        return []
    return [str(one) for one in value] if element.VM > 1 else [str(value)]


def _encoded(text: str) -> Iterator[bytes]:
    for encoding in ("utf-8", "gb18030", "euc_kr", "shift_jis"):
        with suppress(UnicodeEncodeError):
            yield text.encode(encoding)


class KeyFileError(CxrRagError):
    """The file is no key of ours, or cannot be read."""


class Pseudonyms:
    """Derives pseudonyms from a key of 32 bytes; a random one by default."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)

    @classmethod
    def from_key_file(cls, path: Path) -> "Pseudonyms":
        """The key in a file, which is made (for its owner alone) if it is not there.

        Raises:
            KeyFileError: it is something else, or cannot be read.
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
                f"{path} is no key file: it holds one line of 64 hexadecimal digits. Name a file "
                "that is not there, and one is made"
            )
        return cls(bytes.fromhex(text))

    def uid(self, uid: str) -> str:
        """A UID for another (PS3.5 B.2)."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=4).int}"

    def patient(self, identity: str) -> str:
        """A PatientID; empty for an empty identity."""
        return f"P{self._digest('patient', identity).hex()[:16].upper()}" if identity else ""

    def shift_date(self, value: str, *, identity: str) -> str | None:
        """A date (VR DA or DT) moved back, by as much for every date of one patient.

        None where it is no date, or nobody knows whose: two dates of one unknown patient could
        then be told from each other, and from another's.
        """
        found = _DATE.fullmatch(value.strip())
        if not found or not identity:
            return None
        number = int.from_bytes(self._digest("days", identity)[:8])
        days = 1 + number % MAX_SHIFT_DAYS
        try:
            moved = date(*map(int, found.groups()[:3])) - timedelta(days=days)
        except (ValueError, OverflowError):
            return None
        return f"{moved:%Y%m%d}{found[4]}"

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.digest(self._key, f"{kind}\0{value}".encode(), hashlib.sha256)
