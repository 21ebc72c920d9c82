"""The view of an image, from codes and from free text."""

from typing import Any

import pytest
from pydicom.dataset import Dataset
from support.dicom_files import dicom, ramp

from encoders.base import View
from encoders.image_io import read_image, read_image_info
from encoders.images.image_info import is_frontal, parse_view


@pytest.mark.parametrize(
    ("words", "view"),
    [
        ("AP AXIAL", View.AP),
        ("XTABLE LATERAL", View.LATERAL),
        ("X-TABLE LAT", View.LATERAL),
        ("PA LLD", View.PA),
        ("LLD", View.UNKNOWN),
        ("AP RLD", View.AP),
        ("LLAT", View.LATERAL),
        ("ChestLat", View.LATERAL),
        ("Thorax d.v.", View.PA),
        ("SWIMMERS", View.UNKNOWN),
        ("LAO", View.UNKNOWN),
        ("RPO", View.UNKNOWN),
        ("nan", View.UNKNOWN),
        ("", View.UNKNOWN),
        ("W077 Thorax p.a. stehend", View.PA),
        ("Thorax a.p. liegend", View.AP),
        ("Thorax seitl.", View.LATERAL),
        ("CHEST_PA", View.PA),
        ("Chest PA1", View.PA),
        ("postero-anterior", View.PA),
        ("ANTEROPOSTERIOR", View.AP),
        ("Left lateral decubitus", View.UNKNOWN),
        ("Chest, PA and lateral", View.UNKNOWN),
        ("bilateral ribs", View.UNKNOWN),
        ("chest pain, apical", View.UNKNOWN),
        ("胸部側面", View.LATERAL),
    ],
)
def test_parse_view(words: str, view: View) -> None:
    assert parse_view(words) is view


@pytest.mark.parametrize(
    ("words", "frontal"),
    [
        ("Frontal", True),
        ("Thorax de face", True),
        ("AP ERECT", True),
        ("LL", False),
        ("LAO", None),
        ("NaN", None),
    ],
)
def test_is_frontal(words: str, frontal: bool | None) -> None:
    assert is_frontal(words) is frontal


def _item(value: str, meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "99X", meaning
    return [item]


@pytest.mark.parametrize(
    ("attributes", "view"),
    [
        ({"SeriesDescription": "THORAX SEITLICH"}, View.LATERAL),
        ({"ProtocolName": "Chest PA grid"}, View.PA),
        ({"AcquisitionDeviceProcessingDescription": "CHEST, LAT."}, View.LATERAL),
        ({"ViewCodeSequence": _item("17", "antero-posterior")}, View.AP),
        ({"ViewCodeSequence": _item("R-10214", "")}, View.PA),
        ({"SeriesDescription": "PA + LAT", "ProtocolName": "lateral"}, View.LATERAL),
        ({"ViewPosition": "LLO", "SeriesDescription": "Chest PA"}, View.UNKNOWN),
        ({"ViewPosition": "AP", "SeriesDescription": "Chest PA"}, View.AP),
        ({"ViewPosition": "SPECIAL", "SeriesDescription": "Chest PA"}, View.PA),
        ({"PatientOrientation": ["A", "F"]}, View.LATERAL),
        ({"PatientOrientation": ["L", "F"]}, View.UNKNOWN),
        ({"SeriesDescription": "Thorax"}, View.UNKNOWN),
    ],
)
def test_the_view_is_read_from_free_text_of_the_header(
    attributes: dict[str, Any], view: View
) -> None:
    data = dicom(ramp(12), **{"ViewPosition": "", "BitsStored": 12, **attributes})
    assert read_image_info(data).view is view
    assert read_image(data).view is view
