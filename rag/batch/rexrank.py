"""ReXrank's contract: its JSON of studies in, the same with ``model_prediction`` out.

As its submission guide asks: ``--input_json_file --save_json_file --img_root_dir``. The input's
entries come back as they were; a study without a draft has an empty ``model_prediction`` and the
key ``status``, so that nobody takes it for a report.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoders.tabular import read_table
from rag.atomic_io import replace_text
from rag.batch.manifests import read_studies_json
from rag.errors import BatchUsageError
from rag.schema import Section, Status


def work_folder(save_json_file: Path) -> Path:
    """Where the batch behind an output file works, and resumes."""
    return save_json_file.with_name(save_json_file.name + ".batch")


def refuse_foreign_file(save_json_file: Path) -> None:
    """An output file that no batch of ours has made is not overwritten.

    Raises:
        BatchUsageError: there is one.
    """
    if save_json_file.exists() and not work_folder(save_json_file).is_dir():
        raise BatchUsageError(
            f"{save_json_file} exists and was not made by a batch of ours: choose another "
            "--save_json_file"
        )


def write_rexrank(input_json_file: Path, save_json_file: Path, predictions: Path) -> int:
    """Write ReXrank's output for all studies that have a prediction; returns how many.

    Raises:
        OutputError: the file cannot be written.
    """
    drafts = {line.values["study_id"]: line.values for line in read_table(predictions, strict=True)}
    studies = read_studies_json(input_json_file)
    filled = {
        study_id: {**entry, **_prediction(drafts[study_id.strip()])}
        for study_id, entry in studies.items()
        if study_id.strip() in drafts
    }
    replace_text(save_json_file, json.dumps(filled, indent=4, ensure_ascii=False) + "\n")
    return len(filled)


def _prediction(draft: dict[str, Any]) -> dict[str, str]:
    if draft["status"] != Status.OK:
        return {"model_prediction": "", "status": draft["status"]}
    return {"model_prediction": " ".join(_sections(draft))}


def _sections(draft: dict[str, Any]) -> Iterator[str]:
    """As ReXrank's reference reports are written: "Findings: ... Impression: ..."."""
    for section in Section:
        text = " ".join(sentence["text"] for sentence in draft[section.value])
        if text:
            yield f"{section.value.capitalize()}: {text}"
