"""A result read back from its folder, with its studies as far as they were saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.errors import EvalDataError, EvalMismatchError
from eval.results import SCORES, STUDIES, Result, read_jsonl, read_result


@dataclass(frozen=True, slots=True)
class SavedRun:
    """A result, the scores of each study, and their texts (empty where they are not wanted)."""

    result: Result
    scores: list[dict[str, Any]]
    studies: list[dict[str, Any]]


def load_run(folder: Path, *, with_text: bool) -> SavedRun:
    """Read a result's folder.

    Raises:
        EvalUsageError: it holds no result.
        EvalDataError: it is damaged.
    """
    result = read_result(folder)
    try:
        scores = read_jsonl(folder / SCORES) if (folder / SCORES).exists() else []
        there = with_text and (folder / STUDIES).exists()
        return SavedRun(result, scores, read_jsonl(folder / STUDIES) if there else [])
    except (ValueError, OSError) as error:
        raise EvalDataError(f"{folder} is damaged ({error}): score again") from error


def refuse_mismatch(results: Sequence[Result]) -> None:
    """Runs on different studies do not stand side by side.

    Raises:
        EvalMismatchError: names the runs.
    """
    prints = {result.dataset["fingerprint"] for result in results}
    if len(prints) > 1:
        named = ", ".join(f"{r.name} ({r.dataset['studies']} studies)" for r in results)
        raise EvalMismatchError(f"these runs were scored on different studies: {named}")
