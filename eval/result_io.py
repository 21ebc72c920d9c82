"""The folder of a result: numbers, tables, and for drafts scores, texts and statistics per study.

It is written under a temporary name and renamed, so a result is complete or absent. scores.jsonl
can be published; studies.jsonl contains report text.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from eval.errors import EvalDataError, EvalUsageError
from eval.results import SCHEMA, Result, finite
from eval.tables import as_csv, as_markdown
from eval.tasks.generation import GenerationScores
from rag.atomic_io import explain_disk_errors
from rag.report_nlp.labeller import label_text

RESULT, SCORES, STUDIES, STATISTICS = "result.json", "scores.jsonl", "studies.jsonl", "stats.npz"


def save_generation(scored: GenerationScores, out: Path) -> None:
    """Write a generation result into a folder."""
    with _new_folder(scored.result, out) as folder:
        _write_jsonl(folder / SCORES, _scores(scored))
        _write_jsonl(folder / STUDIES, _studies(scored))
        arrays = {f"{system}/{key}": rows for (system, key), rows in scored.statistics.items()}
        np.savez_compressed(
            folder / STATISTICS,
            allow_pickle=False,
            study_id=np.array([study.study_id for study in scored.study_set.studies]),
            patient_id=np.array(scored.study_set.patients),
            **arrays,
        )


def save_result(result: Result, out: Path) -> None:
    """Write the result of a task on vectors into a folder."""
    with _new_folder(result, out):
        pass


@contextmanager
def _new_folder(result: Result, path: Path) -> Iterator[Path]:
    """A temporary folder with result.json and tables, which replaces an older result at the end.

    Raises:
        EvalUsageError: the path exists and is not a result folder.
        EvalDataError: it cannot be written.
    """
    if path.exists() and not (path / RESULT).is_file() and (path.is_file() or any(path.iterdir())):
        raise EvalUsageError(
            f"{path} already exists and is not a result folder: choose another --out"
        )
    path = path.absolute()
    new, old = (path.with_name(f".{path.name}.{suffix}") for suffix in ("new", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with explain_disk_errors(path, EvalDataError):
            new.mkdir(parents=True)
            text = json.dumps(asdict(result), ensure_ascii=False, indent=1, allow_nan=False)
            (new / RESULT).write_text(text + "\n", encoding="utf-8")
            (new / "table.md").write_text(as_markdown(result), encoding="utf-8")
            (new / "table.csv").write_text(as_csv(result), encoding="utf-8")
            yield new
            if path.exists():
                path.rename(old)
            new.rename(path)
    finally:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_result(folder: Path) -> Result:
    """Read a result from its folder.

    Raises:
        EvalUsageError: there is none.
        EvalDataError: it is damaged or has another schema.
    """
    path = folder / RESULT
    if not path.is_file():
        raise EvalUsageError(f"{folder} holds no evaluation (no {RESULT})")
    try:
        result = TypeAdapter(Result).validate_json(path.read_bytes())
    except ValidationError as error:
        raise EvalDataError(f"{path} is damaged ({error}): score again") from error
    if result.schema != SCHEMA:
        raise EvalDataError(f"{path} has schema {result.schema!r}, not {SCHEMA!r}: score again")
    return result


def _scores(scored: GenerationScores) -> Iterator[dict[str, Any]]:
    """Lines of scores.jsonl."""
    values = {
        (system, measure.name): measure.combine(rows)
        for (system, key), rows in scored.statistics.items()
        for measure in scored.metrics[key].measures
        if measure.per_study
    }
    in_train = scored.leak.text_in_train or [None] * len(scored.study_set)
    for i, study in enumerate(scored.study_set.studies):
        scores: dict[str, dict[str, float | None]] = {run.name: {} for run in scored.runs}
        for (system, measure), column in values.items():
            scores[system][measure] = finite(column[i])
        yield {
            "study_id": study.study_id,
            "patient_id": study.patient,
            "normal": scored.study_set.normal[i],
            "text_in_train": in_train[i],
            "scores": scores,
        }


def _studies(scored: GenerationScores) -> Iterator[dict[str, Any]]:
    """Lines of studies.jsonl."""
    run = scored.runs[0]
    for i, pair in enumerate(run.pairs):
        yield {
            "study_id": pair.study_id,
            "reference": pair.reference,
            "draft": pair.draft,
            "labels": {
                "reference": label_text(pair.reference),
                "draft": label_text(pair.draft),
            },
            "confidence": finite(run.confidence[i]) if run.confidence else None,
            "sentences": [asdict(sentence) for sentence in pair.sentences],
            "evidence": [asdict(report) for report in pair.evidence],
            "baselines": {other.name: other.pairs[i].draft for other in scored.runs[1:]},
        }
