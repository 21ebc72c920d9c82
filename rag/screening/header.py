"""Refuses what is not an adult chest X-ray by its file's header.

A header value is quoted only if it is a standard term: anything else could be a person's name.
`rag.screening.out_of_distribution` screens the pixels.
"""

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from encoders.base import View
from encoders.images.image_info import ImageInfo
from encoders.images.raw_image import COLOUR_WARNING

ADULT_YEARS = 18

ONLY_LATERAL = (
    "only a lateral view: findings were calibrated on frontal images, so the evidence is weaker"
)


@dataclass(frozen=True, slots=True)
class ScreeningResult:
    """Whether an image may be drafted from.

    Attributes:
        refusal: why not, and what to do if that is wrong; empty if it may.
        notes: warnings for the reader of the draft.
    """

    refusal: str = ""
    notes: tuple[str, ...] = ()


def screen_header(info: ImageInfo) -> ScreeningResult:
    """Refuse an image by its header, or note what is unusual; an empty header passes."""
    body_part = re.split(r"[\s_\-/.]+", info.body_part.strip())
    if refusal := _refusal(info, body_part):
        return ScreeningResult(refusal)
    lateral = ONLY_LATERAL if info.view is View.LATERAL else ""
    return ScreeningResult(notes=tuple(filter(None, (_body_part_note(body_part), lateral))))


def colour_refusal(warnings: Collection[str]) -> str:
    """Why an image with these reader's warnings is refused for its colours; empty if it is not."""
    if COLOUR_WARNING not in warnings:
        return ""
    return (
        "the picture has several colours; a radiograph is grey. Export the image itself, without "
        "coloured overlays."
    )


def _refusal(info: ImageInfo, body_part: list[str]) -> str:
    terms = _terms()
    if info.is_animal:
        return (
            "the header names an animal or a veterinary practice. Drafts are made from images of "
            "humans only."
        )
    if info.modality and info.modality not in terms["images"]:
        known = terms["modalities"].get(info.modality)
        found = f"is {info.modality} ({known})" if known else "is not an X-ray modality"
        return (
            f"Modality (0008,0060) {found}. Choose a radiograph (CR, DX); if it is one, correct "
            "the header or export it as PNG."
        )
    if others := [word for word in body_part if word in terms["body_parts"]["others"]]:
        return (
            f"BodyPartExamined (0018,0015) is {' '.join(others)}. Choose an image of the chest; if "
            "it is one, correct the header or export it as PNG."
        )
    if info.age_years is not None and info.age_years < ADULT_YEARS:
        return (
            f"PatientAge (0010,1010) is under {ADULT_YEARS} years: the reports and images behind "
            "this system are of adults."
        )
    return ""


def _body_part_note(words: list[str]) -> str:
    parts = _terms()["body_parts"]
    chest = tuple(parts["chest_beginnings"])
    if not any(words) or any(word.startswith(chest) or word in parts["chest"] for word in words):
        return ""
    bones = [word for word in words if word in parts["bones_of_chest"]]
    if bones:
        return (
            f"the header calls this an image of the {' '.join(bones)}: exposed for bone, the lungs "
            "look different"
        )
    return "the header's BodyPartExamined (0018,0015) is not a known term: is it a chest?"


@lru_cache(maxsize=1)
def _terms() -> dict[str, Any]:
    """The content of header_terms.toml, which says what its keys mean."""
    path = Path(__file__).with_name("header_terms.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))
