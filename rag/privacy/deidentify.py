"""Copies of DICOM files without identifiers, by the Basic Profile of PS3.15 Annex E.

Which element is removed, emptied, replaced or renumbered is the table of the standard's edition
2026c, as the package dicom-anonymizer carries it. Added here, because the package does not do it:
the same inside sequences; elements that the dictionary does not know, and all names; a new file
header and preamble; and a last look whether one of the image's own identifiers is left anywhere.

Pixels are not touched. FreeText on them is looked for and said (`rag.privacy.burned_in`).
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions
from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian, generate_uid

from encoders.dicom.header import parse_whole
from encoders.images.image_info import ImageFormat, image_format, read_facts
from encoders.images.image_io import read_image
from encoders.images.raw_image import ImageReadError
from rag.atomic_io import disk_explained
from rag.errors import CxrRagError
from rag.privacy.burned_in import WARNING, find_writing

EDITION = "dicomfields_2026c"
METHOD = "cxr-rag, PS3.15 Basic Profile 2026c"

Rules = dict[tuple[int, ...], Callable[[Dataset, tuple[int, ...]], None]]


class DeidentifyError(CxrRagError):
    """A file that was not copied, because it could not be made safe."""


@dataclass(frozen=True, slots=True)
class Copied:
    """One copy.

    Attributes:
        path: of the copy: a folder a study, a file an image, named by their new UIDs.
        warnings: what a person must look at.
    """

    path: Path
    warnings: tuple[str, ...] = ()


class Deidentifier:
    """Copies files; the same UID gets the same new one for as long as this object lives."""

    def __init__(self) -> None:
        self._uids: dict[str, str] = {}

    def copy(self, source: Path, folder: Path) -> Copied:
        """Write a copy without identifiers below ``folder``.

        Raises:
            DeidentifyError: no DICOM file, or one that cannot be made safe; nothing was written.
            OutputError: the disk refuses.
        """
        try:
            data = source.read_bytes()
        except OSError as error:
            raise DeidentifyError(f"cannot be opened: {error.strerror}") from error
        if image_format(data[:132]) is not ImageFormat.DICOM:
            raise DeidentifyError("is no DICOM file; only DICOM has a profile to go by")
        try:
            names = read_facts(data).names
            dataset = parse_whole(data)
            self._clean(dataset, names)
            written = _bytes_of(dataset)
            _refuse_leftovers(written, names)
        except ImageReadError as error:
            raise DeidentifyError(str(error)) from error
        except DeidentifyError:
            raise
        except Exception as error:  # noqa: BLE001 - pydicom raises a dozen kinds
            # its words may quote the header: the class alone is told
            raise DeidentifyError(
                f"cannot be made safe ({type(error).__name__}): an element of it is malformed"
            ) from None
        path = folder / str(dataset.StudyInstanceUID) / f"{dataset.SOPInstanceUID}.dcm"
        with disk_explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(".part")
            beside.write_bytes(written)
            beside.replace(path)
        return Copied(path, tuple(_warnings(data, dataset)))

    def _clean(self, dataset: Dataset, names: frozenset[str]) -> None:
        """Make a dataset and everything within it safe, in place."""
        for nested in _innermost_first(dataset):
            _drop_unknown(nested)
            anonymize_dataset(nested, base_rules_gen=self._rules)
            _drop_names(nested, names)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            if not dataset.get(keyword):
                setattr(dataset, keyword, generate_uid())
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = METHOD
        dataset.DeidentificationMethodCodeSequence = [_basic_profile()]
        dataset.LongitudinalTemporalInformationModified = "REMOVED"
        syntax = dataset.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian
        dataset.file_meta = FileMetaDataset()  # the old one may name application entities
        dataset.file_meta.TransferSyntaxUID = UID(str(syntax))
        dataset.preamble = bytes(128)

    def _rules(self) -> Rules:
        rules: Rules = dict(_table())
        for tag in _uid_tags():
            rules[tag] = self._renumber
        return rules

    def _renumber(self, dataset: Dataset, tag: tuple[int, ...]) -> None:
        element = dataset.get(tag)  # type: ignore[arg-type]  # a pair of numbers is a tag
        if element is None or not element.value:
            return
        values = [element.value] if element.VM == 1 else list(element.value)
        new = [self._uids.setdefault(str(value), generate_uid(None)) for value in values]
        element.value = new[0] if len(new) == 1 else new


def dicom_files(folder: Path) -> Iterator[Path]:
    """DICOM files of a tree, by content, in a fixed order."""
    for path in sorted(folder.rglob("*")):
        with suppress(OSError):
            if path.is_file() and path.name.upper() != "DICOMDIR":
                with path.open("rb") as file:
                    if image_format(file.read(132)) is ImageFormat.DICOM:
                        yield path


@lru_cache(maxsize=1)
def _table() -> Rules:
    rules: Rules = initialize_actions(EDITION)
    return rules


@lru_cache(maxsize=1)
def _uid_tags() -> tuple[tuple[int, ...], ...]:
    return tuple(dicom_anonymization_database_selector(EDITION)["U_TAGS"])


def _innermost_first(dataset: Dataset) -> Iterator[Dataset]:
    for element in list(dataset):  # converts every element: a malformed one raises here
        if element.VR == "SQ":
            for item in element.value:
                yield from _innermost_first(item)
    yield dataset


def _drop_unknown(dataset: Dataset) -> None:
    """Private elements, and those the dictionary does not know: nobody can say what is in them."""
    for element in list(dataset):
        group = element.tag.group
        repeats = 0x5000 <= group < 0x5100 or 0x6000 <= group < 0x6100
        if element.tag.is_private or not (repeats or dictionary_has_tag(element.tag)):
            del dataset[element.tag]


def _drop_names(dataset: Dataset, names: frozenset[str]) -> None:
    """Names of persons, and whatever else still holds an identifier of this image."""
    pattern = _any_of(names)
    for element in list(dataset):
        if element.VR == "PN" and element.value:
            element.value = ""
        elif element.VR in _TEXT and pattern and pattern.search(_text(element).lower()):
            del dataset[element.tag]


_TEXT = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "UI", "DA", "DT", "UN"})
_SHORTEST = 4  # letters; shorter parts of names are words, too


def _any_of(names: frozenset[str]) -> re.Pattern[str] | None:
    long = sorted(name for name in names if len(name) >= _SHORTEST)
    if not long:
        return None
    return re.compile(rf"(?<![a-z0-9.])(?:{'|'.join(map(re.escape, long))})(?![a-z0-9])")


def _text(element: DataElement) -> str:
    value = element.value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def _basic_profile() -> Dataset:
    """PS3.16 CID 7050, Basic Application Confidentiality Profile."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = "113100", "DCM"
    item.CodeMeaning = "Basic Application Confidentiality Profile"
    return item


def _bytes_of(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _refuse_leftovers(written: bytes, names: frozenset[str]) -> None:
    """The last look: at the file as it will be, without its pixels."""
    left = read_facts(written).names & {name for name in names if len(name) >= _SHORTEST}
    start = written.find(b"\xe0\x7f\x10\x00")
    header = written[: start if start > 0 else None].decode("latin-1").lower()
    pattern = _any_of(names)
    if left or (pattern and pattern.search(header)):
        raise DeidentifyError(
            "still holds one of its identifiers, in a place that was not foreseen"
        )


def _warnings(data: bytes, dataset: Dataset) -> Iterator[str]:
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        yield "its header says that there is writing on the image (BurnedInAnnotation is YES)"
    if str(dataset.get("RecognizableVisualFeatures", "")).upper() == "YES":
        yield "its header says that a face can be recognised (RecognizableVisualFeatures is YES)"
    try:
        image: Any = read_image(data)
    except ImageReadError as error:
        yield f"its pixels were not looked at: {error.reason.value}"
        return
    if find_writing(image.pixels):
        yield WARNING
