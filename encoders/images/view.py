"""Words for a projection, as headers and tables write them, to `View`.

"AP AXIAL", "XTABLE LATERAL", "W033 Thorax p.a.", "LL", "nan": known or UNKNOWN, never an error.
"""

import re

from encoders.base import View

_START, _END = r"(?<![a-z])(?:", r")(?![a-z])"
_PA = re.compile(
    rf"{_START}p\.? ?-?a|postero-? ?anterior|posterior-anterior|dorso-?ventral{_END}", re.IGNORECASE
)
_AP = re.compile(
    rf"{_START}a\.? ?-?p|antero-? ?posterior|anterior-posterior|ventro-?dorsal{_END}", re.IGNORECASE
)
_LATERAL = re.compile(
    rf"{_START}x?-?(?:table)? ?lat(?:eral(?:is)?)?|ll|rl|seitl(?:ich)?|profil{_END}|側面|侧位",
    re.IGNORECASE,
)
_FRONTAL = re.compile(rf"{_START}frontal{_END}|正面|正位", re.IGNORECASE)
_OTHER = re.compile(rf"decub|obliq|schräg|{_START}[lr][ap]o|[lr]lo|[lr]ld{_END}", re.IGNORECASE)


def parse_view(text: str) -> View:
    """The projection that some words name; UNKNOWN where they name none, several or another.

    A decubitus or oblique image is neither a frontal nor a lateral one to report from first.
    """
    if _OTHER.search(text):
        return View.UNKNOWN
    text = text.replace("_", " ")
    views = ((View.PA, _PA), (View.AP, _AP), (View.LATERAL, _LATERAL))
    found = [view for view, pattern in views if pattern.search(text)]
    if len(found) != 1 or (found == [View.LATERAL] and _FRONTAL.search(text)):
        return View.UNKNOWN
    return found[0]


def is_other_projection(text: str) -> bool:
    """Whether some words name a decubitus or oblique projection."""
    return bool(_OTHER.search(text))


def is_frontal(text: str) -> bool | None:
    """Whether some words name a frontal projection; None where they do not say."""
    view = parse_view(text)
    if view is View.UNKNOWN:
        named = _FRONTAL.search(text) and not _LATERAL.search(text) and not _OTHER.search(text)
        return True if named else None
    return view is not View.LATERAL
