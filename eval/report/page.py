"""One self-contained HTML page of one or more results: tables, plots, a browser of studies.

The page makes no request: its style, script and data are inline, and its content security policy
forbids everything else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from eval.errors import EvalDataError, EvalMismatchError
from eval.report.page_sections import SavedRun, generation_section, task_section
from eval.result_io import SCORES, STUDIES, read_result
from eval.results import Result
from rag.schema import NOTICE

_MAX_STUDIES = 1_000
_SCORE_KEYS = ("scores", "normal", "text_in_train")
_DEFAULT_ORDER = ("ROUGE-L", "micro F1-14 (u=1)", "BLEU-1")
"""Measures by which the studies are sorted at first; the first one that was scored is used."""


def build_page(folders: Sequence[Path], *, with_text: bool = True) -> str:
    """The page as HTML.

    Args:
        folders: result folders; several generation runs are shown side by side.
        with_text: whether the page contains report text.

    Raises:
        EvalUsageError: a folder holds no result.
        EvalMismatchError: generation runs on different study sets.
    """
    runs = [_load_run(folder, with_text=with_text) for folder in folders]
    generation = [run for run in runs if run.result.task == "generation"]
    if len({run.result.dataset["fingerprint"] for run in generation}) > 1:
        names = (f"{r.result.name} ({r.result.dataset['studies']} studies)" for r in generation)
        raise EvalMismatchError(f"these runs were scored on different studies: {', '.join(names)}")
    sections = [generation_section(generation)] if generation else []
    sections += [task_section(run.result) for run in runs if run.result.task != "generation"]
    studies = [_browser_data(run) for run in generation if run.studies]
    environment = Environment(
        loader=PackageLoader("eval.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # keeps order of keys
    return environment.get_template("report.html").render(
        notice=NOTICE,
        title=", ".join(dict.fromkeys(run.result.name for run in runs)),
        sections=sections,
        results=[run.result for run in runs],
        provenance=[_provenance(run.result) for run in runs],
        data={"runs": studies} if studies else None,
    )


def _provenance(result: Result) -> dict[str, Any]:
    content = {
        "made": result.created,
        "command": result.command,
        "schema": result.schema,
        "software": result.made_by,
        "models": result.models,
        "data": result.dataset,
        "settings": result.settings,
    }
    return {"name": result.name, "task": result.task, "json": json.dumps(content, indent=1)}


def _load_run(folder: Path, *, with_text: bool) -> SavedRun:
    result = read_result(folder)
    try:
        scores = _read_jsonl(folder / SCORES)
        studies = _read_jsonl(folder / STUDIES) if with_text else []
    except (ValueError, OSError) as error:
        raise EvalDataError(f"{folder} is damaged ({error}): score again") from error
    return SavedRun(result, scores, studies)


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _browser_data(run: SavedRun) -> dict[str, Any]:
    """The studies for the script, worst first."""
    name = run.result.name
    scores = {row["study_id"]: row for row in run.scores}
    measures = [
        measure
        for measure in run.result.measures()
        if any(row["scores"][name].get(measure) is not None for row in run.scores)
    ]
    first = next((measure for measure in _DEFAULT_ORDER if measure in measures), measures[0])
    directions = {number.measure: number.direction for number in run.result.numbers}
    studies = [
        study | {key: scores[study["study_id"]][key] for key in _SCORE_KEYS}
        for study in run.studies
    ]
    sign = -1 if directions[first].startswith("lower") else 1

    def badness(study: dict[str, Any]) -> float:
        value = study["scores"][name].get(first)
        return float("inf") if value is None else sign * value

    studies.sort(key=badness)
    return {
        "name": name,
        "measures": measures,
        "first": first,
        "directions": directions,
        "total": len(studies),
        "studies": studies[:_MAX_STUDIES],
    }
