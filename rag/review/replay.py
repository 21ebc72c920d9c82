"""A prompt made again from the audit record, byte for byte, or why it is not.

Knows the record, the store and the templates; asks no model.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from prompts.render import TEMPLATES, Prompt, PromptTemplateError, load_template, render
from rag.index import ReportIndex
from rag.review.audit import AuditError, AuditLog


@dataclass(frozen=True, slots=True)
class Replay:
    """A prompt made again.

    Attributes:
        prompt: the messages, as they come out today.
        recorded: hash of the messages that were sent.
        differences: why they are not the same; empty where they are.
        answer: what the model wrote then.
    """

    prompt: Prompt
    recorded: str
    differences: tuple[str, ...]
    answer: str

    @property
    def is_identical(self) -> bool:
        """Whether it is the prompt that was sent, to the byte."""
        return self.prompt.sha256 == self.recorded


def replay(log: AuditLog, draft: str, *, store: ReportIndex, templates: Path = TEMPLATES) -> Replay:
    """Make the prompt of a recorded draft again, with the templates of a folder.

    Raises:
        AuditError: no such draft, or no prompt was sent for it.
    """
    entry = next((e for e in log.entries_of(draft) if e.event == "draft"), None)
    if entry is None or not entry.data["prompt_sha256"]:
        raise AuditError(f"draft {draft}: nothing was asked of a model, so there is no prompt")
    data, differences = entry.data, []
    if store.index_id != data["index"]:
        differences.append(f"the index is {store.index_id}, was {data['index']}")
    try:
        template = load_template(data["prompt"], templates=templates)
    except PromptTemplateError as error:
        raise AuditError(f"the prompt template of the draft is gone: {error}") from error
    differences += [
        f"report {each['report_id']} has another text now"
        for each in data["evidence"]
        if _text_hash(each["report_id"], store) != each["text_sha256"]
    ]
    try:
        prompt = render(template, data.get("variables", {}))
    except PromptTemplateError as error:
        raise AuditError(f"the prompt cannot be made again: {error}") from error
    if prompt.sha256 != data["prompt_sha256"] and not differences:
        differences.append("the template has changed since")
    return Replay(prompt, data["prompt_sha256"], tuple(differences), data["answer"])


def _text_hash(report_id: str, store: ReportIndex) -> str:
    record = store.get(report_id)
    if record is None:
        raise AuditError(
            f"report {report_id} is no longer in the store: the prompt cannot be made again. "
            "Restore the index it was made with."
        )
    return hashlib.sha256(record.text.encode()).hexdigest()
