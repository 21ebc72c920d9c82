"""How the stored rows lie on the patient, and what turns the image upright.

Owns PatientOrientation (0020,0020; PS3.3 C.7.6.1.1.1) and what is said where it is absent and the
detector's header tells of a flip or a turn (C.8.11.4). An upright chest has the patient's feet at
the bottom; a frontal one has the patient's left on the right of the image.
"""

from pydicom.dataset import Dataset

from encoders.base import View
from encoders.dicom.header import code, number, text_values
from encoders.dicom.layout import tag
from encoders.images.geometry import Turn

_AXIS = {"L": 0, "R": 0, "A": 1, "P": 1, "H": 2, "F": 2}
_SWAPPED = "sides may be swapped, compare with the markers on the image"


def turn_of(dataset: Dataset, view: View) -> tuple[Turn, tuple[str, ...]]:
    """What turns the image upright, and sentences about it."""
    found = text_values(dataset, "PatientOrientation")
    if not found:
        return Turn(), _unknown_flip(dataset)
    name = tag("PatientOrientation")
    letters = [value.upper()[:1] for value in found]
    axes = [_AXIS.get(letter) for letter in letters]
    if len(axes) != 2 or None in axes or axes[0] == axes[1] or 2 not in axes:
        return Turn(), (f"{name} cannot be understood: {_SWAPPED}",)
    frontal = 0 in axes
    shown = "\\".join(letters)
    if frontal == (view is View.LATERAL) and view is not View.UNKNOWN:
        return Turn(), (f"{name} = {shown} does not fit the view {view}: {_SWAPPED}",)
    turn = _upright(letters[0], letters[1], frontal=frontal)
    if not turn:
        return turn, ()
    how = "turned" if turn.transpose or turn.flip_rows else "mirrored"
    return turn, (f"{name} = {shown}: stored {how}, shown upright",)


def _upright(row: str, column: str, *, frontal: bool) -> Turn:
    """Directions of a row and of a column, to the right and down, become L (frontal) and F."""
    transpose = _AXIS[row] == 2
    across, down = (column, row) if transpose else (row, column)
    flip_rows = down == "H"
    # A lateral is right from either side: it is turned, never mirrored.
    flip_columns = across == "R" if frontal else transpose != flip_rows
    return Turn(transpose, flip_rows, flip_columns)


def _unknown_flip(dataset: Dataset) -> tuple[str, ...]:
    found = [
        f"{tag('FieldOfViewHorizontalFlip')} = YES"
        if code(dataset, "FieldOfViewHorizontalFlip") == "YES"
        else "",
        f"{tag('FieldOfViewRotation')} = {turned:g}"
        if (turned := number(dataset, "FieldOfViewRotation"))
        else "",
    ]
    if not any(found):
        return ()
    said = " and ".join(filter(None, found))
    return (f"{said}, but {tag('PatientOrientation')} is missing: {_SWAPPED}",)
