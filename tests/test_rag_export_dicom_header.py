"""Reports of images whose headers have invalid values."""

from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from support.dicom_files import dicom, ramp
from support.odd_images import UIDS, odd_image
from test_rag_export_dicom_sr import PREDICTION, draft, image, read, signed, texts

from rag.export import as_document
from rag.export.dicom_header import StructuredReportError
from rag.export.text import Export
from rag.review.reviewed_report import ReviewedReport, Signature
from rag.schema import Draft, DraftSentence

__all__ = ["image"]  # a fixture


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"StudyDate": b"1999.7.4"}, {"StudyDate": ""}),
        ({"StudyDate": b"1999-07-04"}, {"StudyDate": ""}),
        ({"StudyDate": b"19990704"}, {"StudyDate": "19990704"}),
        ({"PatientBirthDate": b"00000000"}, {"PatientBirthDate": ""}),
        ({"PatientBirthDate": b"19630230"}, {"PatientBirthDate": ""}),
        ({"StudyTime": b"24:61:00"}, {"StudyTime": ""}),
        ({"StudyTime": b"081530.25"}, {"StudyTime": "081530.25"}),
        ({"PatientSex": b"U "}, {"PatientSex": ""}),
        ({"PatientSex": b"O "}, {"PatientSex": "O"}),
        ({"PatientSex": b"female"}, {"PatientSex": ""}),
        ({"AccessionNumber": b"A" * 40}, {"AccessionNumber": ""}),
        ({"PatientID": b"12\\34"}, {"PatientID": ""}),
        ({"SeriesNumber": b"first "}, {"SeriesNumber": 900}),
        ({"SeriesNumber": b"-7"}, {"SeriesNumber": 900}),
        (
            {"SpecificCharacterSet": b"ISO_IR 4711", "PatientName": b"Muster^E=\xc3\xa9\xa0"},
            {"PatientName": "Muster^E"},
        ),
        ({"PatientName": "Nový^Jiří".encode()}, {"PatientName": "Nový^Jiří"}),
        (
            {"SpecificCharacterSet": b"ISO_IR 100", "PatientName": b"M\xfcller^J\xf6rg"},
            {"PatientName": "Müller^Jörg"},
        ),
    ],
)
def test_invalid_header_values_are_left_empty_with_a_note(
    tmp_path: Path, stored: dict[str, bytes], expected: dict[str, object]
) -> None:
    path = odd_image(tmp_path / "odd.dcm", **stored)
    document = read(signed(), path)
    assert document.SpecificCharacterSet == "ISO_IR 192"
    for keyword, value in expected.items():
        assert document[keyword].value == value
    notes = [text for text in texts(document) if "the image's" in text]
    bad = any(value == "" for value in expected.values()) or b"4711" in b"".join(stored.values())
    assert bool(notes) is bad
    assert not any(word in "".join(notes) for word in ("1999", "female", "AAAA", "12\\34"))


def test_names_in_escape_sequences_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "jis.dcm"
    japanese = ["", "ISO 2022 IR 87"]  # as modalities declare it: the first value is empty
    name = "Sato^Hana=佐藤^花"
    path.write_bytes(dicom(ramp(12), **UIDS, SpecificCharacterSet=japanese, PatientName=name))
    assert b"\x1b$B" in path.read_bytes()
    document = read(signed(), path)
    assert (document.SpecificCharacterSet, document.PatientName) == ("ISO_IR 192", name)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("佐藤 花子", "佐藤^花子"),
        ("김훈", "김훈^"),
        ("Пётр Ильич Сидоров", "Сидоров^Пётр Ильич"),
        ("Ünal, Şükrü", "Ünal^Şükrü"),
        ("محمد علي", "علي^محمد"),
    ],
)
def test_signers_in_any_script_become_person_names(
    image: Path, tmp_path: Path, name: str, written: str
) -> None:
    header = pydicom.dcmread(image)
    del header.SpecificCharacterSet
    header.save_as(tmp_path / "ascii.dcm")
    text = "Effusion \N{EN DASH} about 2 cm, ≥ 1 cm deeper than “small”."
    draft = Draft((DraftSentence(text, ()),), ())
    signature = Signature(name, "2026-01-02T03:04:05+01:00")
    report = ReviewedReport.from_draft(draft).accept([0]).sign(signature)
    document = read(Export(replace(PREDICTION, draft=draft), report), tmp_path / "ascii.dcm")
    (observer,) = document.VerifyingObserverSequence
    assert str(observer.VerifyingObserverName) == written
    assert text in texts(document)


def test_an_image_without_a_preamble_is_read(image: Path, tmp_path: Path) -> None:
    (tmp_path / "bare.dcm").write_bytes(image.read_bytes()[132:])
    assert read(draft(), tmp_path / "bare.dcm").PatientID == "4711"


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", bytes(128) + b"DICM\xff\xff"])
def test_files_that_are_not_dicom_raise_a_structured_report_error(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(StructuredReportError):
        as_document(draft(), "dicom", image=tmp_path / "a")


def test_library_errors_become_a_structured_report_error_without_header_values(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("Doe^John is not valid")

    monkeypatch.setattr("rag.export.dicom_sr._content", fail)
    with pytest.raises(StructuredReportError, match="ValueError") as error:
        as_document(draft(), "dicom", image=image)
    assert "Doe" not in str(error.value)
