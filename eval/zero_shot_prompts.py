"""Classes: the sentences that stand for one, and what each data set calls it."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sentence that says a finding is there, or that it is not."""

    label: str
    present: bool
    text: str


def prompts(labels: Iterable[str]) -> tuple[Prompt, ...]:
    """The sentences of these classes, in the order of the labels and of the TOML file.

    Raises:
        KeyError: a class without sentences.
    """
    table = _toml("zero_shot_prompts.toml")
    return tuple(
        Prompt(label, state == "positive", text)
        for label in labels
        for state in ("positive", "negative")
        for text in table[label][state]
    )


def has_prompts(label: str) -> bool:
    """Whether a class has sentences."""
    return label in _toml("zero_shot_prompts.toml")


def classes_of(data_set: str) -> tuple[str, ...]:
    """Classes of "open-i", "nih", "chexpert" or "rsna"."""
    return tuple(_toml("datasets.toml")[data_set])


def class_names(data_set: str, given: Iterable[str]) -> frozenset[str]:
    """Classes that a data set's own label names stand for; names it does not map are left out."""
    names = {name.strip().lower() for name in given}
    table = _toml("datasets.toml")[data_set]
    return frozenset(label for label, own in table.items() if names.intersection(own))


@lru_cache(maxsize=2)
def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads(files("eval").joinpath(name).read_text(encoding="utf-8"))
