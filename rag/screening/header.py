"""What is not an adult chest X-ray gets no draft, and is told why.

Owns the words and the judgement by the file's header (`encoders.images.image_info`);
`rag.screening.out_of_distribution`
judges by the pixels. Header words are quoted only if they are terms of the standard: what else
stands there could be a name.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from encoders.base import View
from encoders.images.image_info import ImageInfo
from encoders.images.raw_image import COLOURFUL

ADULT_YEARS = 18

ONLY_LATERAL = (
    "only a lateral view: the encoder has learnt from frontal images, its evidence is weaker"
)


class RefusalKind(StrEnum):
    """Why there is no draft: what refusals are counted by."""

    MODALITY = "not a radiograph"
    BODY_PART = "not a chest"
    ANIMAL = "not a human"
    CHILD = "not an adult"
    COLOUR = "in colour"
    PIXELS = "does not look like a chest X-ray"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an image gets no draft.

    Attributes:
        kind: what it is counted by.
        reason: one sentence, with what to do if it is wrong.
    """

    kind: RefusalKind
    reason: str


@dataclass(frozen=True, slots=True)
class ScreeningResult:
    """What is to be said of an image before it is drafted from.

    Attributes:
        refusal: why there must be no draft; None where there may be one.
        notes: sentences the reader of the draft should see.
    """

    refusal: Refusal | None = None
    notes: tuple[str, ...] = ()


def judge_header(facts: ImageInfo) -> ScreeningResult:
    """Refuse by header, or say what is unusual. An empty header is no reason to refuse."""
    refusal = _animal(facts) or _modality(facts) or _body_part(facts) or _child(facts)
    if refusal:
        return ScreeningResult(refusal)
    return ScreeningResult(notes=tuple(filter(None, (_odd_body_part(facts), _lateral(facts)))))


def judge_colour(warnings: Collection[str]) -> Refusal | None:
    """Refuse a picture whose reader says that it has several colours."""
    if COLOURFUL not in warnings:
        return None
    return Refusal(
        RefusalKind.COLOUR,
        "the picture is in several colours, and an image is grey. Export the image itself, without "
        "overlays in colour.",
    )


def _animal(facts: ImageInfo) -> Refusal | None:
    if not facts.animal:
        return None
    return Refusal(
        RefusalKind.ANIMAL,
        "the header speaks of an animal or of a veterinary practice. Only images of humans are "
        "drafted from.",
    )


def _modality(facts: ImageInfo) -> Refusal | None:
    if not facts.modality or facts.modality in _terms().images:
        return None
    known = _terms().modalities.get(facts.modality)
    found = f"is {facts.modality} ({known})" if known else "is none of an image"
    return Refusal(
        RefusalKind.MODALITY,
        f"Modality (0008,0060) {found}. Choose a radiograph (CR, DX); if it is one, correct the "
        "header or export it as PNG.",
    )


def _body_part(facts: ImageInfo) -> Refusal | None:
    words = _words(facts.body_part)
    if _is_chest(words) or not (found := [word for word in words if word in _terms().others]):
        return None
    return Refusal(
        RefusalKind.BODY_PART,
        f"BodyPartExamined (0018,0015) is {' '.join(found)}. Choose an image of the chest; if it "
        "is one, correct the header or export it as PNG.",
    )


def _odd_body_part(facts: ImageInfo) -> str:
    words = _words(facts.body_part)
    if not words or _is_chest(words):
        return ""
    bones = [word for word in words if word in _terms().bones_of_chest]
    if bones:
        return (
            f"the header calls this an image of the {' '.join(bones)}: exposed for bone, its lungs "
            "look different"
        )
    return "the header's BodyPartExamined (0018,0015) is not a word that is known: is it a chest?"


def _child(facts: ImageInfo) -> Refusal | None:
    if facts.age_years is None or facts.age_years >= ADULT_YEARS:
        return None
    return Refusal(
        RefusalKind.CHILD,
        f"PatientAge (0010,1010) is under {ADULT_YEARS} years: the reports and images behind this "
        "are of adults.",
    )


def _lateral(facts: ImageInfo) -> str:
    return ONLY_LATERAL if facts.view is View.LATERAL else ""


def _words(body_part: str) -> list[str]:
    for separator in "_-/.":
        body_part = body_part.replace(separator, " ")
    return body_part.split()


def _is_chest(words: list[str]) -> bool:
    terms = _terms()
    if any(word in terms.others for word in words):
        return False
    return any(word.startswith(terms.chest_beginnings) or word in terms.chest for word in words)


@dataclass(frozen=True, slots=True)
class _Terms:
    """The content of header_terms.toml."""

    images: frozenset[str]
    modalities: Mapping[str, str]
    chest: frozenset[str]
    chest_beginnings: tuple[str, ...]
    bones_of_chest: frozenset[str]
    others: frozenset[str]


@lru_cache(maxsize=1)
def _terms() -> _Terms:
    path = Path(__file__).with_name("header_terms.toml")
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    parts = data["body_parts"]
    return _Terms(
        images=frozenset(data["images"]),
        modalities=data["modalities"],
        chest=frozenset(parts["chest"]),
        chest_beginnings=tuple(parts["chest_beginnings"]),
        bones_of_chest=frozenset(parts["bones_of_chest"]),
        others=frozenset(parts["others"]),
    )
