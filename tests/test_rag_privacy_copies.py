"""De-identified copies: hidden data in headers and pixels, pseudonyms, what the command reports.

All names are invented.
"""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from support.dicom_files import BIG_ENDIAN, EXPLICIT, IMPLICIT, JPEG_2000_LOSSLESS, RLE, dicom, ramp
from typer.testing import CliRunner

from encoders.image_io import read_image
from rag.cli.main import app
from rag.privacy.deidentify import Deidentifier
from rag.privacy.header import KeyFileError, Pseudonyms

KEY = bytes(range(32))
UIDS = {"StudyInstanceUID": "1.2.9.8", "SeriesInstanceUID": "1.2.9.8.1", "BitsStored": 12}


def source(path: Path, pixels: Any = None, **attributes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = ramp(12, rows=64) if pixels is None else pixels
    path.write_bytes(dicom(content, **{**UIDS, "PatientID": "MRN-5", **attributes}))
    return path


def copied(path: Path, folder: Path, **options: Any) -> Dataset:
    return dcmread(Deidentifier(**options).copy(path, folder).path)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, RLE])
@pytest.mark.parametrize(("high_bit", "hidden"), [(11, 0xB000), (15, 0x000B)])
def test_unused_bits_are_cleared(tmp_path: Path, syntax: str, high_bit: int, hidden: int) -> None:
    clean = ramp(12, rows=64) << (high_bit - 11)
    path = source(tmp_path / "a.dcm", clean | np.uint16(hidden), syntax=syntax, HighBit=high_bit)
    copy = copied(path, tmp_path / "out")
    order = ">" if copy.file_meta.TransferSyntaxUID == BIG_ENDIAN else "<"
    kept = np.frombuffer(copy.PixelData, f"{order}u2").reshape(clean.shape)
    assert np.array_equal(kept, clean)
    assert np.array_equal(read_image(path).pixels, read_image(Path(copy.filename)).pixels)


def test_signed_pixel_values_are_unchanged(tmp_path: Path) -> None:
    stored = ramp(12, rows=64, signed=True)
    dirty = ((stored.view(np.uint16) & np.uint16(0x0FFF)) | np.uint16(0x5000)).view(np.int16)
    copy = copied(source(tmp_path / "a.dcm", dirty, PixelRepresentation=1), tmp_path / "out")
    assert np.array_equal(copy.pixel_array, stored)


def test_compressed_pixels_without_unused_bits_are_unchanged(tmp_path: Path) -> None:
    path = source(tmp_path / "a.dcm", syntax=JPEG_2000_LOSSLESS)
    copy = copied(path, tmp_path / "out")
    assert copy.file_meta.TransferSyntaxUID == JPEG_2000_LOSSLESS
    assert copy.PixelData == dcmread(path).PixelData


def test_bytes_behind_the_last_pixel_are_removed(tmp_path: Path) -> None:
    data = ramp(12, rows=64).tobytes()
    path = source(tmp_path / "a.dcm", PixelData=data + b"Quibblewick", BitsAllocated=16)
    assert copied(path, tmp_path / "out").PixelData == data


def test_overlays_and_curves_are_removed(tmp_path: Path) -> None:
    elements = {
        0x60000010: ("US", 64),
        0x60000011: ("US", 64),
        0x60000022: ("LO", "drawn by Xylander"),
        0x60001500: ("LO", "Xylander"),
        0x60003000: ("OW", bytes(512)),
        0x60020040: ("CS", "G"),
        0x50000005: ("US", 1),
    }
    copy = copied(source(tmp_path / "a.dcm", elements=elements), tmp_path / "out")
    assert not [e for e in copy.iterall() if 0x5000 <= e.tag.group < 0x6100]
    assert b"Xylander" not in Path(copy.filename).read_bytes()


@pytest.mark.parametrize(
    ("name", "planted", "hidden"),
    [
        (
            "Li^Na=李^娜",
            {"DetectorDescription": "李娜 PA", "Grid": "NA LI"},
            ("李娜", "李", "NA LI"),
        ),
        ("Oh^Su=오^수", {"GantryID": "OH^SU", "DetectorDescription": "오수"}, ("오수", "OH^SU")),
        ("Ek^Bo", {"FilterMaterial": "EK BO", "DetectorID": "bo ek"}, ("EK BO", "bo ek")),
        ("Vo^Thi=Võ^Thị", {"DetectorDescription": "Võ Thị"}, ("Võ",)),
        (
            "Doe^Jo",
            {  # a person not named elsewhere in the header
                "FilterMaterial": "XYLANDER",
                "Grid": "XYLANDER",
                "ExposureControlModeDescription": "Xylander",
                "DetectorManufacturerName": "Xylander",
                "AcquisitionDeviceProcessingCode": "Xylander",
                "GantryID": "Xylander",
                "LUTExplanation": "Xylander",
                "WindowCenterWidthExplanation": "Xylander",
                "RescaleType": "XYLANDER",
            },
            ("Xylander", "XYLANDER"),
        ),
    ],
)
def test_short_and_non_latin_names_are_removed_everywhere(
    tmp_path: Path, name: str, planted: dict[str, str], hidden: tuple[str, ...]
) -> None:
    attributes = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": name, **planted}
    path = source(tmp_path / "a.dcm", **attributes)
    content = path.read_bytes()
    assert all(word.encode() in content for word in hidden)
    copy = copied(path, tmp_path / "out")
    content = Path(copy.filename).read_bytes()
    for word in hidden:
        assert word.encode() not in content
    assert copy.Modality == "DX"
    assert copy.ViewPosition == "PA"


@pytest.mark.parametrize("shift_dates", [False, True])
def test_unlisted_dates_and_uids_are_removed(tmp_path: Path, shift_dates: bool) -> None:
    original = source(
        tmp_path / "a.dcm",
        MultiFrameSourceSOPInstanceUID="1.2.9.8.5",
        StudyUpdateDateTime="20260301101500",
        OriginalSpecializedSOPClassUID="1.2.9.1",
        ContextUID="1.2.840.10008.6.1.1",
    )
    copy = copied(original, tmp_path / "out", shift_dates=shift_dates)
    assert "MultiFrameSourceSOPInstanceUID" not in copy
    assert "StudyUpdateDateTime" not in copy
    assert copy.OriginalSpecializedSOPClassUID == "1.2.9.1"
    assert copy.ContextUID == "1.2.840.10008.6.1.1"


def test_code_meanings_of_private_schemes_are_removed(tmp_path: Path) -> None:
    code, standard = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "7", "99WARD", "Xylander's"
    standard.CodeValue, standard.CodingSchemeDesignator = "399372009", "SCT"
    standard.CodeMeaning = "postero-anterior"
    sequences = {"ViewCodeSequence": [standard], "AnatomicRegionSequence": [code]}
    copy = copied(source(tmp_path / "a.dcm", **sequences), tmp_path / "out")
    assert copy.ViewCodeSequence[0].CodeMeaning == "postero-anterior"
    assert b"Xylander" not in Path(copy.filename).read_bytes()


def test_pseudonyms_are_equal_in_every_run_with_a_key_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    paths = [
        source(tmp_path / f"{n}.dcm", PatientID=patient, SOPInstanceUID=f"1.2.9.8.1.{n}")
        for n, patient in enumerate(("MRN-5", "MRN-5 ", "MRN-6"))
    ]
    runs = [
        [copied(path, tmp_path / run, pseudonyms=Pseudonyms.from_key_file(key)) for path in paths]
        for run in ("first", "second")
    ]
    assert key.stat().st_mode & 0o777 == 0o600
    for before, after in zip(*runs, strict=True):
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "SOPInstanceUID"):
            assert before[keyword].value == after[keyword].value != ""
    (one, same, other), _ = runs
    assert one.PatientID == same.PatientID != other.PatientID
    elsewhere = copied(paths[0], tmp_path / "third", pseudonyms=Pseudonyms())
    assert elsewhere.PatientID != one.PatientID
    assert elsewhere.StudyInstanceUID != one.StudyInstanceUID
    key.write_text("not a key")
    with pytest.raises(KeyFileError):
        Pseudonyms.from_key_file(key)


def test_dates_of_a_patient_are_shifted_by_the_same_time(tmp_path: Path) -> None:
    def dates(number: int, day: str, patient: str) -> Dataset:
        path = source(
            tmp_path / f"{number}.dcm",
            PatientID=patient,
            StudyDate=day,
            AcquisitionDateTime=f"{day}101500",
            PatientBirthDate="19500101",
            SOPInstanceUID=f"1.2.9.{number}",
        )
        return copied(path, tmp_path / "out", pseudonyms=Pseudonyms(KEY), shift_dates=True)

    def moved(copy: Dataset) -> date:
        return date.fromisoformat(copy.StudyDate)

    first, second = dates(1, "20240228", "P1"), dates(2, "20240305", "P1")
    other = dates(3, "20240228", "P2")
    assert moved(second) - moved(first) == date(2024, 3, 5) - date(2024, 2, 28)
    assert moved(first) < date(2024, 2, 28)
    assert moved(other) != moved(first)
    assert str(first.AcquisitionDateTime) == f"{first.StudyDate}101500"
    assert b"19500101" not in Path(first.filename).read_bytes()
    assert first.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = {item.CodeValue for item in first.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113107"}
    plain = copied(tmp_path / "1.dcm", tmp_path / "plain")
    assert b"20240228" not in Path(plain.filename).read_bytes()


def test_images_with_equal_uids_get_separate_copies(tmp_path: Path) -> None:
    same = {"SOPInstanceUID": "1.2.9.8.1.1"}
    first = source(tmp_path / "1.dcm", **same)
    second = source(tmp_path / "2.dcm", ramp(12, rows=64)[::-1].copy(), **same)
    copies = Deidentifier()
    one, two = (copies.copy(path, tmp_path / "out") for path in (first, second))
    assert one.path != two.path
    assert read_image(two.path).pixels.tobytes() == read_image(second).pixels.tobytes()
    assert any("SOPInstanceUID" in warning for warning in two.warnings)


def test_the_command_counts_copies_and_reports_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    source(folder / "a.dcm")
    (folder / "b.dcm").write_bytes((folder / "a.dcm").read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "gone.dcm").symlink_to("nowhere")
    options = ["--key", str(tmp_path / "key"), "--shift-dates"]
    run = CliRunner().invoke(app, ["deid", str(folder), str(tmp_path / "out"), *options])
    assert run.exit_code == 3
    assert "1 of 2 files copied" in run.output
    assert "3 not DICOM" in run.output
    assert all(name in run.output for name in ("notes.txt", "picture.png", "b.dcm", "gone.dcm"))
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1
