"""Classes: the sentences that stand for one, and what each data set calls it."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class ClassPrompt:
    """A sentence that says a finding is there, or that it is not."""

    label: str
    present: bool
    text: str


def prompts(labels: Iterable[str]) -> tuple[ClassPrompt, ...]:
    """The sentences of these classes, in the order of the labels and of the TOML file.

    A class that the file does not have, as in a table of your own, gets plain sentences.
    """
    table = _toml("zero_shot_prompts.toml")
    return tuple(
        ClassPrompt(label, state == "positive", text)
        for label in labels
        for state in ("positive", "negative")
        for text in table.get(label, _plain(label))[state]
    )


def _plain(label: str) -> dict[str, tuple[str]]:
    name = label.replace("_", " ").lower()
    return {"positive": (f"There is {name}.",), "negative": (f"There is no {name}.",)}


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
