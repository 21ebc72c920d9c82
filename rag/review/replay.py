"""Renders the prompt of a recorded draft again, from audit record, index and templates."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from prompts.render import TEMPLATES, Prompt, PromptTemplateError, load_template, render
from rag.index import ReportIndex
from rag.review.audit import AuditError, AuditLog


@dataclass(frozen=True, slots=True)
class Replay:
    """A prompt rendered again.

    Attributes:
        prompt: as rendered today.
        recorded_sha256: of the prompt that was sent.
        differences: why they differ; empty if they do not.
        answer: the model's recorded answer.
    """

    prompt: Prompt
    recorded_sha256: str
    differences: tuple[str, ...]
    answer: str

    @property
    def is_identical(self) -> bool:
        """Whether it is the prompt that was sent, byte for byte."""
        return self.prompt.sha256 == self.recorded_sha256


def replay(log: AuditLog, draft: str, *, index: ReportIndex, templates: Path = TEMPLATES) -> Replay:
    """Render the prompt of a recorded draft again, with the templates of a folder.

    Raises:
        AuditError: there is no such draft, no prompt was sent for it, or it cannot be rendered.
    """
    entries = log.entries_of(draft)
    entry = next((entry for entry in entries if entry.event == "draft"), None)
    if entry is None or not entry.data["prompt_sha256"]:
        raise AuditError(f"draft {draft}: nothing was asked of a model, so there is no prompt")
    data, differences = entry.data, []
    if index.index_id != data["index"]:
        differences.append(f"the index is {index.index_id}, was {data['index']}")
    try:
        template = load_template(data["prompt"], templates=templates)
    except PromptTemplateError as error:
        raise AuditError(f"the prompt template of the draft is gone: {error}") from error
    differences += [
        f"report {hit['report_id']} has another text now"
        for hit in data["evidence"]
        if _text_hash(hit["report_id"], index) != hit["text_sha256"]
    ]
    try:
        prompt = render(template, data.get("variables", {}))
    except PromptTemplateError as error:
        raise AuditError(f"the prompt cannot be rendered again: {error}") from error
    if prompt.sha256 != data["prompt_sha256"] and not differences:
        differences.append("the template has changed since")
    return Replay(prompt, data["prompt_sha256"], tuple(differences), data["answer"])


def _text_hash(report_id: str, index: ReportIndex) -> str:
    record = index.get(report_id)
    if record is None:
        raise AuditError(
            f"report {report_id} is no longer in the index: the prompt cannot be rendered again. "
            "Restore the index it was made with."
        )
    return hashlib.sha256(record.text.encode()).hexdigest()
