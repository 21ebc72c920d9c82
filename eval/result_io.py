"""The folder of a result: numbers and tables, and of drafts per-study scores, texts and statistics.

A folder is built beside and renamed, so that there is a complete result or none. Scores and texts
are apart: scores.jsonl can be published, studies.jsonl holds report text.
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
from eval.report.tables import as_csv, as_markdown
from eval.results import SCHEMA, Result, finite
from eval.tasks.generation import Scored
from rag.atomic_io import explain_disk_errors
from rag.report_nlp.labeller import label_text

RESULT, SCORES, STUDIES, STATISTICS = "result.json", "scores.jsonl", "studies.jsonl", "stats.npz"


def save_generation(scored: Scored, out: Path) -> None:
    """Write everything into a folder, whole or not at all."""
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
    """Write a result without studies of its own (the tasks on vectors)."""
    with _new_folder(result, out):
        pass


@contextmanager
def _new_folder(result: Result, path: Path) -> Iterator[Path]:
    """A folder with result.json and tables, to put more into.

    It takes its name when all is written, in place of an older result.

    Raises:
        EvalUsageError: something that is no result of ours stands there.
        EvalDataError: it cannot be written.
    """
    if path.exists() and not (path / RESULT).is_file() and (path.is_file() or any(path.iterdir())):
        raise EvalUsageError(
            f"{path} already exists and is not a result folder: choose another --out"
        )
    path = path.absolute()
    beside, old = (path.with_name(f".{path.name}.{word}") for word in ("new", "old"))
    for leftover in (beside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with explain_disk_errors(path, EvalDataError):
            beside.mkdir(parents=True)
            text = json.dumps(asdict(result), ensure_ascii=False, indent=1, allow_nan=False)
            (beside / RESULT).write_text(text + "\n", encoding="utf-8")
            (beside / "table.md").write_text(as_markdown(result), encoding="utf-8")
            (beside / "table.csv").write_text(as_csv(result), encoding="utf-8")
            yield beside
            if path.exists():
                path.rename(old)
            beside.rename(path)
    finally:
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_result(folder: Path) -> Result:
    """A result from its folder.

    Raises:
        EvalUsageError: there is none.
        EvalDataError: it is damaged, or of another version of the schema.
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


def _scores(scored: Scored) -> Iterator[dict[str, Any]]:
    """Per study: the score of every system on every measure."""
    values = {
        (system, measure.name): measure.combine(rows)
        for (system, key), rows in scored.statistics.items()
        for measure in scored.metrics[key].measures
        if measure.single
    }
    for at, study in enumerate(scored.study_set.studies):
        scores: dict[str, dict[str, float | None]] = {run.name: {} for run in scored.runs}
        for (system, measure), each in values.items():
            scores[system][measure] = finite(each[at])
        yield {
            "study_id": study.study_id,
            "patient_id": study.patient,
            "normal": scored.normal[at],
            "text_in_train": scored.leak.seen_text[at] if scored.leak.seen_text else None,
            "scores": scores,
        }


def _studies(scored: Scored) -> Iterator[dict[str, Any]]:
    """Per study: reference, draft, labels of both, cited sentences and evidence."""
    run = scored.runs[0]
    for at, pair in enumerate(run.pairs):
        yield {
            "study_id": pair.study_id,
            "reference": pair.reference,
            "draft": pair.draft,
            "labels": {
                "reference": label_text(pair.reference),
                "draft": label_text(pair.draft),
            },
            "confidence": finite(run.confidence[at]) if run.confidence else None,
            "sentences": [asdict(sentence) for sentence in pair.sentences],
            "evidence": [asdict(report) for report in pair.evidence],
            "baselines": {other.name: other.pairs[at].draft for other in scored.runs[1:]},
        }
