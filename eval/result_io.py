"""Writes results: numbers and tables, and of drafts per-study scores, texts and statistics.

Scores and texts are apart: scores.jsonl can be published, studies.jsonl holds report text.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from eval.report.tables import as_csv, as_markdown
from eval.results import (
    SCORES,
    STATISTICS,
    STUDIES,
    Result,
    finite,
    new_folder,
    write_jsonl,
    write_result,
)
from eval.tasks.generation import Scored
from rag.report_nlp.labeller import label_text


def save_generation(scored: Scored, out: Path) -> None:
    """Write everything into a folder, whole or not at all."""
    with new_folder(out) as folder:
        write_result(folder, scored.result)
        write_jsonl(folder / SCORES, _scores(scored))
        write_jsonl(folder / STUDIES, _studies(scored))
        arrays = {f"{system}/{key}": rows for (system, key), rows in scored.statistics.items()}
        np.savez_compressed(
            folder / STATISTICS,
            allow_pickle=False,
            study_id=np.array([study.study_id for study in scored.study_set.studies]),
            patient_id=np.array(scored.study_set.patients),
            **arrays,
        )
        _write_tables(folder, scored.result)


def save_result(result: Result, out: Path) -> None:
    """Write a result without studies of its own (the tasks on vectors), and its tables."""
    with new_folder(out) as folder:
        write_result(folder, result)
        _write_tables(folder, result)


def _write_tables(folder: Path, result: Result) -> None:
    (folder / "table.md").write_text(as_markdown(result), encoding="utf-8")
    (folder / "table.csv").write_text(as_csv(result), encoding="utf-8")


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
            "patient_id": study.patient_id,
            "normal": scored.normal[at],
            "text_in_train": scored.leak.seen_text[at] if scored.leak.seen_text else None,
            "scores": scores,
        }


def _studies(scored: Scored) -> Iterator[dict[str, Any]]:
    """Per study: reference, draft, labels of both, cited sentences and evidence."""
    run = scored.runs[0]
    for at, pair in enumerate(run.pairs):
        confidence = run.confidence[at] if run.confidence else float("nan")
        yield {
            "study_id": pair.study_id,
            "reference": pair.reference,
            "draft": pair.draft,
            "labels": {
                "reference": label_text(pair.reference),
                "draft": label_text(pair.draft),
            },
            "confidence": finite(confidence),
            "sentences": [{"text": s.text, "sources": s.sources} for s in pair.sentences],
            "evidence": [{"report_id": e.report_id, "text": e.text} for e in pair.evidence],
            "baselines": {other.name: other.pairs[at].draft for other in scored.runs[1:]},
        }
