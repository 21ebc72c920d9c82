"""Labels the texts of a file."""

import json
from collections.abc import Iterator
from pathlib import Path

from eval.errors import EvalDataError
from eval.io.entries import Entry, FieldError, parse_entries
from rag.report_nlp.labeller import label_text


def label_file(path: Path) -> Iterator[str]:
    """One JSON line for each line of a JSONL file with ``text``: ``{"labels": {...}}``.

    Raises:
        EvalUsageError: no such file.
        EvalDataError: names every line that is wrong, before the first label is printed.
    """
    found = parse_entries(path, labels_of)
    if not found:
        raise EvalDataError(f"{path} holds no text")
    for labels in found.values():
        yield json.dumps({"labels": labels}, ensure_ascii=False)


def labels_of(entry: Entry) -> dict[str, str]:
    """Polarities of the labels that an entry's ``text`` mentions.

    Raises:
        FieldError: it has no text.
    """
    text = entry.values.get("text")
    if not isinstance(text, str):
        raise FieldError("has no text" if text is None else f"text is a {type(text).__name__}")
    return {label: polarity.value for label, polarity in label_text(text).items()}
