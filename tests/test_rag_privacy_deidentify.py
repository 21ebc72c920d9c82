"""De-identified copies have no identifier, consistent pseudonyms, and the same pixels.

All names are invented.
"""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from demo.phantom import write_phantom_dicom
from encoders.image_io import read_image
from rag.cli.main import app
from rag.errors import UsageError
from rag.privacy.burned_in import WARNING, has_burned_in_text
from rag.privacy.deidentify import Deidentifier, DeidentifyError

pytestmark = pytest.mark.slow

PLANTED = ("Hollister", "Quentin", "MRN-471199", "ACC-081567", "Abernathy", "St Swithin", "WARD12")
STUDY_UID = "1.2.826.0.1.3680043.8.498.471199.1"


def image(path: Path, *, study_uid: str = STUDY_UID) -> Path:
    """A phantom with invented identifiers in every kind of element, and a ramp as pixels."""
    write_phantom_dicom(path, size=256)
    dataset = dcmread(path)
    ramp = np.arange(dataset.Columns, dtype=np.uint16)  # the phantom has text on it
    dataset.PixelData = np.tile(ramp, (dataset.Rows, 1)).tobytes()
    dataset.BurnedInAnnotation = "NO"
    dataset.PatientName = "Hollister^Quentin"
    dataset.PatientID = "MRN-471199"
    dataset.AccessionNumber = "ACC-081567"
    dataset.PatientBirthDate, dataset.StudyDate = "19470712", "20240229"
    dataset.ReferringPhysicianName = "Abernathy^Rosalind"
    dataset.InstitutionName = "St Swithin"
    dataset.StudyDescription = "Thorax of Hollister"
    dataset.ImageComments = "MRN-471199 asked for it"
    dataset.StudyInstanceUID, dataset.SOPInstanceUID = study_uid, generate_uid()
    step = Dataset()
    step.ScheduledProcedureStepDescription = "chest, Quentin"
    step.ScheduledPerformingPhysicianName = "Abernathy"
    item = Dataset()
    item.RequestedProcedureID = "ACC-081567"
    item.ReferencedStudySequence = Sequence([step])
    dataset.RequestAttributesSequence = Sequence([item])
    block = dataset.private_block(0x0029, "WARD12", create=True)
    block.add_new(1, "LO", "Hollister, bed 4")
    dataset.preamble = b"Hollister".ljust(128, b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = "WARD12"
    dataset.save_as(path)
    assert all(name.encode() in path.read_bytes() for name in PLANTED)
    return path


def test_no_identifier_is_left_in_a_copy(tmp_path: Path) -> None:
    copied = Deidentifier().copy(image(tmp_path / "Hollister.dcm"), tmp_path / "out")
    content = copied.path.read_bytes()
    for name in (*PLANTED, STUDY_UID, "19470712", "20240229"):
        assert name.encode() not in content, name
        assert name not in str(copied.path.relative_to(tmp_path))
    dataset = dcmread(copied.path)
    assert dataset.PatientIdentityRemoved == "YES"
    assert dataset.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert not any(element.tag.is_private for element in dataset.iterall())


def test_pixels_are_unchanged(tmp_path: Path) -> None:
    source = image(tmp_path / "a.dcm")
    copied = Deidentifier().copy(source, tmp_path / "out")
    assert dcmread(copied.path).PixelData == dcmread(source).PixelData
    assert np.array_equal(read_image(copied.path).pixels, read_image(source).pixels)


def test_equal_uids_get_equal_pseudonyms(tmp_path: Path) -> None:
    copies = Deidentifier()
    paths = [
        copies.copy(image(tmp_path / f"{n}.dcm", study_uid=uid), tmp_path / "out").path
        for n, uid in enumerate([STUDY_UID, STUDY_UID, STUDY_UID + "9"])
    ]
    assert paths[0].parent == paths[1].parent != paths[2].parent
    again = Deidentifier().copy(tmp_path / "0.dcm", tmp_path / "again").path
    assert again.parent.name != paths[0].parent.name, "new UIDs cannot be computed from old ones"


def test_references_to_images_are_kept(tmp_path: Path) -> None:
    dataset = dcmread(image(tmp_path / "a.dcm"))
    reference = Dataset()
    reference.ReferencedSOPClassUID = dataset.SOPClassUID
    reference.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    reference.ContentDescription = "Hollister, supine"
    dataset.SourceImageSequence = Sequence([reference])
    dataset.save_as(tmp_path / "a.dcm")
    copied = dcmread(Deidentifier().copy(tmp_path / "a.dcm", tmp_path / "out").path)
    (item,) = copied.SourceImageSequence
    assert item.ReferencedSOPClassUID == dataset.SOPClassUID
    assert item.ReferencedSOPInstanceUID == copied.SOPInstanceUID
    assert "ContentDescription" not in item


def test_burned_in_text_causes_a_warning(tmp_path: Path) -> None:
    write_phantom_dicom(tmp_path / "phantom.dcm")
    warnings = Deidentifier().copy(tmp_path / "phantom.dcm", tmp_path / "out").warnings
    assert WARNING in warnings, "the phantom says PHANTOM"
    blank = np.tile(np.linspace(0, 1, 512, dtype=np.float32), (512, 1))
    assert not has_burned_in_text(blank)


RUBBISH = bytes(128) + b"DICM" + b"\xff" * 40


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", RUBBISH])
def test_files_that_cannot_be_deidentified_are_not_copied(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DeidentifyError):
        Deidentifier().copy(tmp_path / "a", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    image(folder / "a.dcm")
    (folder / "note.txt").write_text("no image")
    run = CliRunner().invoke(app, ["deid", str(folder), str(tmp_path / "out")])
    assert (run.exit_code, "1 of 1 files copied" in run.output) == (0, True), run.output
    (folder / "b.dcm").write_bytes(RUBBISH)
    run = CliRunner().invoke(app, ["deid", str(folder), str(tmp_path / "out2")])
    assert (run.exit_code, "1 of 2 files copied" in run.output) == (3, True), run.output
    for arguments in ((folder, folder / "out"), (tmp_path / "no", tmp_path)):
        run = CliRunner().invoke(app, ["deid", *map(str, arguments)])
        assert isinstance(run.exception, UsageError)  # exit code 2
