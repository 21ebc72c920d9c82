"""What is done to each element of a header: PS3.15 Annex E, Basic Profile, and what it leaves.

The table is the standard's edition 2026c, as the package dicom-anonymizer carries it. Added here:
free text and coded words that the table leaves are kept only by name, because anybody can write
anything there; private and unknown elements, overlays and curves go.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from dicomanonymizer.simpledicomanonymizer import initialize_actions
from pydicom.datadict import dictionary_has_tag, tag_for_keyword
from pydicom.dataset import Dataset

EDITION = "dicomfields_2026c"

Rules = dict[tuple[int, ...], Callable[[Dataset, tuple[int, ...]], None]]

_WORDS = frozenset({"AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "UN", "PN"})
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


@lru_cache(maxsize=1)
def profile_table() -> Rules:
    """What the profile does, by tag; UIDs by the package's own random ones."""
    rules: Rules = initialize_actions(EDITION)
    return rules


@lru_cache(maxsize=1)
def uid_tags() -> tuple[tuple[int, ...], ...]:
    """Tags of the UIDs that are replaced, consistently."""
    return tuple(dicom_anonymization_database_selector(EDITION)["U_TAGS"])


def innermost_first(dataset: Dataset) -> Iterator[Dataset]:
    """All data sets within one, and it last. A malformed element raises here."""
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                yield from innermost_first(item)
    yield dataset


def drop_what_no_table_knows(dataset: Dataset) -> None:
    """Overlays, curves, private elements, those of no dictionary, and free text, in place."""
    table = profile_table()
    for element in list(dataset):
        tag = element.tag
        repeats = 0x5000 <= tag.group < 0x5100 or 0x6000 <= tag.group < 0x6100
        unknown = tag.is_private or not dictionary_has_tag(tag)
        free = element.VR in _WORDS and tag not in _KEPT and (tag.group, tag.element) not in table
        if repeats or unknown or free or tag == 0xFFFCFFFC:
            del dataset[tag]
    for keyword in ("RescaleType", "ModalityLUTType"):
        if keyword in dataset and str(dataset[keyword].value) not in _UNITS:
            dataset[keyword].value = "US"
    if "CodeMeaning" in dataset and dataset.get("CodingSchemeDesignator") not in _SCHEMES:
        dataset.CodeMeaning = dataset.get("CodeValue") or "-"
