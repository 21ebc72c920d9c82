"""Notes by which an archive takes an image out of use."""

from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from support.dicom_files import EXPLICIT, write

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"


def note(path: Path, *instances: str, title: str = "113001", study: str = "1.2.7") -> Path:
    """A Key Object Selection that names instances of a study."""
    series = Dataset()
    series.SeriesInstanceUID = f"{study}.1"
    series.ReferencedSOPSequence = []
    for uid in instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.1", uid
        series.ReferencedSOPSequence.append(item)
    evidence, code = Dataset(), Dataset()
    evidence.StudyInstanceUID, evidence.ReferencedSeriesSequence = study, [series]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = title, "DCM", "title"
    path.parent.mkdir(parents=True, exist_ok=True)
    selection = Dataset()
    selection.SOPClassUID, selection.SOPInstanceUID = KEY_OBJECT, generate_uid()
    selection.Modality, selection.StudyInstanceUID = "KO", study
    selection.SeriesInstanceUID = f"{study}.2"
    selection.ConceptNameCodeSequence = [code]
    selection.CurrentRequestedProcedureEvidenceSequence = [evidence]
    path.write_bytes(write(selection, EXPLICIT))
    return path
