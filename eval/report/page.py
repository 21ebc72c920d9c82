"""One self-contained HTML page of one result or several: tables, plots, a browser of studies.

The page makes no request: its style, script and data are inside, and its content security policy
forbids everything else.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from eval.report.page_sections import generation_section, task_section
from eval.report.page_studies import browser_data, script_json
from eval.results import Result, load_run, refuse_mismatch
from rag.schema import NOTICE


def build_page(folders: Sequence[Path], *, with_text: bool = True) -> str:
    """The page as HTML.

    Args:
        folders: of scored tasks; several generation runs stand side by side.
        with_text: whether report text goes into the page; without, only numbers do.

    Raises:
        EvalUsageError: a folder holds no result.
        EvalMismatchError: generation runs on different study sets.
    """
    runs = [load_run(folder, with_text=with_text) for folder in folders]
    generation = [run for run in runs if run.result.task == "generation"]
    refuse_mismatch([run.result for run in generation])
    sections = [generation_section(generation)] if generation else []
    sections += [task_section(run.result) for run in runs if run.result.task != "generation"]
    studies = [browser_data(run) for run in generation if run.studies]
    template = _environment().from_string(_file("report.html"))
    return template.render(
        notice=NOTICE,
        title=", ".join(dict.fromkeys(run.result.name for run in runs)),
        css=Markup(_file("report.css")),  # noqa: S704 - our own files
        js=Markup(_file("report.js")),  # noqa: S704
        sections=sections,
        results=[run.result for run in runs],
        provenance=[_provenance(run.result) for run in runs],
        data=script_json({"runs": studies}) if studies else None,
    )


def _provenance(result: Result) -> dict[str, Any]:
    shown = {
        "made": result.created,
        "command": result.command,
        "schema": result.schema,
        "software": result.made_by,
        "models": result.models,
        "data": result.dataset,
        "settings": result.settings,
    }
    return {"name": result.name, "task": result.task, "json": json.dumps(shown, indent=1)}


def _environment() -> Environment:
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _file(name: str) -> str:
    return files("eval.report").joinpath("templates", name).read_text(encoding="utf-8")
