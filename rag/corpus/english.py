"""Whether reports are English: everything here that reads report language reads English only."""

import re
from collections.abc import Iterable

NOT_ENGLISH = (
    "most of these reports do not look English: labels, evidence sentences and the check of drafts "
    "read English only, and will be empty or wrong for them"
)
_ENGLISH = re.compile(
    r"\b(?:the|is|are|no|not|of|and|with|without|or|has|have|there|clear|normal|seen|left|right"
    r"|small|lungs?|heart|chest|unchanged|effusion)\b",
    re.IGNORECASE,
)
_OTHER = re.compile(
    r"\b(?:der|die|das|und|kein\w*|nicht|ist|im|mit|ohne|links|rechts|el|los|las|un|una|sin|del|con"
    r"|y|se|le|les|des|et|pas|sans|du|est|dans|il|nel|non|di|della|e|o|na|em|do|da|sem|de|het|een"
    r"|geen|van|ikke|og|och|inte|ve|yok)\b"
    r"|[^\W\d_a-zA-Z]{2,}",  # any word that has letters of another script
    re.IGNORECASE,
)


def not_english(texts: Iterable[str]) -> bool:
    """Whether more than half of the reports have more small words of other languages than English.

    >>> not_english(["Kein Erguss, Herz nicht vergrößert."]), not_english(["Cardiomegaly."])
    (True, False)
    """
    foreign = count = 0
    for text in texts:
        count += 1
        foreign += len(_OTHER.findall(text)) > len(_ENGLISH.findall(text))
    return foreign * 2 > count
