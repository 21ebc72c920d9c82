"""CheXpert-14 labels of a report by rule.

Decides which polarity wins in a text, what "No Finding" means and which sections are not read.
`rag/report_nlp/data/findings.toml` says which words carry which label.
"""

import re
from functools import lru_cache

from encoders.report_sections import HEADER, report_parts
from rag.report_nlp.assertion import Mention, Polarity, mentions

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""CheXpert's observations, by its names and in its order (Irvin et al., AAAI 2019)."""

NO_FINDING = LABELS[0]

_RANK = {Polarity.POSITIVE: 2, Polarity.UNCERTAIN: 1, Polarity.NEGATIVE: 0}


def label_text(text: str) -> dict[str, Polarity]:
    """CheXpert-14 labels of a report or of any part of one.

    Where mentions of one label disagree, positive wins over uncertain and uncertain over negative.
    "No Finding" is positive where nothing but support devices is said to be there, and absent
    otherwise; findings without a label of their own (emphysema, scoliosis, hernia) count too.
    Indication, history, comparison and technique are not read where a heading marks them.

    Args:
        text: findings, impression, or a whole report with headings.

    Returns:
        Labels that the text mentions; an empty text has none.
    """
    return dict(_label_text(text))


@lru_cache(maxsize=8192)  # an image looks at fifty reports, and many images at the same ones
def _label_text(text: str) -> tuple[tuple[str, Polarity], ...]:
    if not any(letter.isalpha() for letter in text):
        return ()
    return tuple(labels_of(mentions(read_sections(text))).items())


def labels_of(found: list[Mention]) -> dict[str, Polarity]:
    """Labels of mentions that were read already."""
    labels: dict[str, Polarity] = {}
    normal = True
    # "Stable" says least, so what else is said of the heart counts first.
    for mention in sorted(found, key=lambda mention: mention.stable):
        label, polarity = mention.finding.label, mention.polarity
        if polarity is None or (mention.stable and label in labels):
            continue
        if label and (label not in labels or _RANK[polarity] > _RANK[labels[label]]):
            labels[label] = polarity
        if polarity is not Polarity.NEGATIVE and label != "Support Devices":
            normal = normal and mention.finding.normal
    if normal:
        labels[NO_FINDING] = Polarity.POSITIVE
    return {name: labels[name] for name in LABELS if name in labels}


def read_sections(text: str) -> str:
    """``text`` without headings and the sections that describe no image; offsets stay the same."""
    if ":" not in text:
        return text
    for part in report_parts(text):
        if part.kind in HEADER:
            blank = re.sub(r"\S", " ", text[part.start : part.end])
            text = text[: part.start] + blank + text[part.end :]
        elif part.body - part.start > 1:  # a heading ends what stands before it
            blank = "\n\n".ljust(part.body - part.start)
            text = text[: part.start] + blank + text[part.body :]
    return text
