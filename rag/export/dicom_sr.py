"""A draft or a signed report as a DICOM Comprehensive SR document in the image's study.

The only importer of highdicom. Owns the mapping: findings and impression as text, the evidence of
each sentence as inferred-from text, the drafting device and the signer as observers (PS3.16 TID
1001 ff.), PARTIAL and UNVERIFIED until signed (PS3.3 C.17.2). Patient and study are copied from the
image's header (`rag.export.dicom_header`). The document is in UTF-8 (ISO_IR 192).
"""

import io
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import highdicom as hd
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept, ContentSequence
from highdicom.sr import RelationshipTypeValues as Relation
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from rag.export.text import ADDENDUM, LOINC, REPORT, Export, citation_lines, sentence_marks
from rag.review.reviewed_report import ReportLine, Signature
from rag.schema import NOTICE, Section

MANUFACTURER = "cxr-rag"
_PRIVATE_SCHEME = "99CXRRAG"
_SENTENCE_CONCEPTS = {
    Section.FINDINGS: ("121071", "Finding"),
    Section.IMPRESSION: ("121073", "Impression"),
}
_COMMENT = ("121106", "DCM", "Comment")
_FAMILY_FIRST = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Chinese, Japanese and Korean letters, in which the family name comes first."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


def write_sr(export: Export, header: Dataset, notes: Sequence[str]) -> bytes:
    """The content of the DICOM file."""
    signature = export.report.signature
    document = hd.sr.ComprehensiveSR(
        evidence=[header],
        content=_content(export, header, notes),
        series_instance_uid=generate_uid(),
        series_number=_series_number(header),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=signature is not None,
        is_final=signature is not None,
        is_verified=signature is not None,
        institution_name=None,
        verifying_observer_name=_person(signature) if signature else None,
        # type 1; only the image's header can tell it
        verifying_organization=str(header.InstitutionName) or "not stated" if signature else None,
        series_description="Chest X-ray report" if signature else NOTICE,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                _PRIVATE_SCHEME, name="codes of cxr-rag", responsible_organization=MANUFACTURER
            )
        ],
    )
    if signature:
        document.VerifyingObserverSequence[0].VerificationDateTime = _dicom_datetime(signature)
    buffer = io.BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _content(export: Export, image: Dataset, header_notes: Sequence[str]) -> Any:
    root = hd.sr.ContainerContentItem(
        name=CodedConcept(REPORT[0], "LN", REPORT[1]),
        is_content_continuous=False,
        template_id="2000",
    )
    children = ContentSequence()
    children.append(
        hd.sr.CodeContentItem(
            CodedConcept("121049", "DCM", "Language of Content Item and Descendants"),
            CodedConcept("en", "RFC5646", "English"),
            Relation.HAS_CONCEPT_MOD,
        )
    )
    children.extend(_observers(export))
    for section in Section:
        if lines := export.report.section(section):
            children.append(_section(section, lines, export, image))
    for addendum in export.report.addenda:
        text = _text(*_COMMENT, f"{addendum.text} ({addendum.signature})")
        children.append(_container(*ADDENDUM, [text]))
    key_image = _image_reference(image, Relation.CONTAINS)
    children.append(_container("55113-5", "Key images", [key_image]))
    children.append(_text(*_COMMENT, "\n".join(export.remarks(header_notes))))
    root.ContentSequence = children
    return root


def _observers(export: Export) -> Iterator[Any]:
    """The drafting device, and the signer if signed."""
    prediction = export.prediction
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID.from_uuid("6d1a1a52-2f3c-4a52-9a51-1f8f0c5d2a11"),
        name=f"{MANUFACTURER} {prediction.encoder_id}"[:64],
        manufacturer_name=MANUFACTURER,
        model_name=f"{prediction.llm} {prediction.prompt}"[:64],
    )
    yield from hd.sr.ObserverContext(CodedConcept("121007", "DCM", "Device"), device)
    if export.report.signature:
        person = hd.sr.PersonObserverIdentifyingAttributes(name=_person(export.report.signature))
        yield from hd.sr.ObserverContext(CodedConcept("121006", "DCM", "Person"), person)


def _section(
    section: Section, lines: tuple[ReportLine, ...], export: Export, image: Dataset
) -> Any:
    texts = []
    for line in lines:
        code, meaning = _SENTENCE_CONCEPTS[section]
        text = _text(code, "DCM", meaning, line.text)
        text.ContentSequence = _support(line, export, image)
        texts.append(text)
    return _container(*LOINC[section], texts)


def _support(line: ReportLine, export: Export, image: Dataset) -> ContentSequence:
    """What a sentence was inferred from: the image and the cited reports; and its marks."""
    support = ContentSequence()
    support.append(_image_reference(image, Relation.INFERRED_FROM))
    for text in citation_lines(line, export):
        support.append(_inferred_from("cxr-evidence", "Retrieved report", text))
    for mark in sentence_marks(line, export):
        support.append(_inferred_from("cxr-check", "Check of the sentence", mark))
    return support


def _inferred_from(code: str, meaning: str, text: str) -> Any:
    concept = CodedConcept(code, _PRIVATE_SCHEME, meaning)
    return hd.sr.TextContentItem(concept, text, Relation.INFERRED_FROM)


def _container(value: str, meaning: str, items: list[Any]) -> Any:
    """A section under a LOINC heading."""
    container = hd.sr.ContainerContentItem(
        CodedConcept(value, "LN", meaning),
        is_content_continuous=False,
        relationship_type=Relation.CONTAINS,
    )
    container.ContentSequence = ContentSequence(items)
    return container


def _image_reference(image: Dataset, relation: Any) -> Any:
    return hd.sr.ImageContentItem(
        CodedConcept("121080", "DCM", "Best illustration of finding"),
        image.SOPClassUID,
        image.SOPInstanceUID,
        relationship_type=relation,
    )


def _text(value: str, scheme: str, meaning: str, text: str) -> Any:
    text = _CONTROLS.sub(" ", text)
    return hd.sr.TextContentItem(CodedConcept(value, scheme, meaning), text, Relation.CONTAINS)


def _person(signature: Signature) -> str:
    """A name in the form of PS3.5 6.2.1: "Roe, Jane" and "Jane Roe" are both Roe^Jane."""
    name = "".join(" " if letter in "\\=^" else letter for letter in signature.name)
    name = " ".join(_CONTROLS.sub(" ", name).split())
    family, comma, given = name.partition(",")
    if not comma and _FAMILY_FIRST.search(name):
        family, _, given = name.partition(" ")
    elif not comma:
        given, _, family = name.rpartition(" ")
    return f"{family.strip()}^{given.strip()}"[:64]


def _dicom_datetime(signature: Signature) -> str:
    """The time of a signature as VR DT."""
    at = datetime.fromisoformat(signature.at)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).strftime("%Y%m%d%H%M%S%z")


def _series_number(image: Dataset) -> int:
    """The image's series number plus 900, within the limits of highdicom."""
    return min(max(int(image.SeriesNumber or 0), 0) + 900, 99999)
