"""Which projection a DICOM header says an image is."""

from pydicom.dataset import Dataset

from encoders.base import View
from encoders.dicom.header import VIEW_WORDS, code, items, text_values, word
from encoders.images.view import is_other_projection, parse_view

_VIEW_CODES = {  # SNOMED RT and CT codes of CID 4010, DX View
    **dict.fromkeys(("R-10206", "399348003"), View.AP),
    **dict.fromkeys(("R-10214", "399372009"), View.PA),
    **dict.fromkeys(("R-10232", "399198007", "R-10236", "399173006"), View.LATERAL),
}


def view_of(dataset: Dataset) -> View:
    """ViewPosition (0018,5101), else ViewCodeSequence (0054,0220), else the words of the series.

    A ViewPosition that names another projection ("LLO") is not overruled by words.
    """
    position = code(dataset, "ViewPosition")
    if (view := parse_view(position)) is not View.UNKNOWN or is_other_projection(position):
        return view
    codes = items(dataset, "ViewCodeSequence")
    for item in codes:
        if (value := word(item, "CodeValue")) in _VIEW_CODES:
            return _VIEW_CODES[value]
    words = [word(item, "CodeMeaning", limit=64) for item in codes]
    words += [text for keyword in VIEW_WORDS for text in text_values(dataset, keyword)]
    views = (parse_view(text) for text in words)
    return next((view for view in views if view is not View.UNKNOWN), View.UNKNOWN)
