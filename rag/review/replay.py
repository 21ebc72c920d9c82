"""A prompt made again from the audit record, byte for byte, or why it is not.

Knows the record, the store and the templates; asks no model.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prompts.render import TEMPLATES, Prompt, PromptTemplateError, load_template, render
from rag.index import ReportIndex
from rag.review.audit import AuditEntry, AuditError, AuditLog
from rag.schema import Hit


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
    def same(self) -> bool:
        """Whether it is the prompt that was sent, to the byte."""
        return self.prompt.sha256 == self.recorded


def replay(log: AuditLog, draft: str, *, store: ReportIndex, templates: Path = TEMPLATES) -> Replay:
    """Make the prompt of a recorded draft again, with the templates of a folder.

    Raises:
        AuditError: no such draft, or no prompt was sent for it.
    """
    entry = next((e for e in log.of_draft(draft) if e.event == "draft"), None)
    if entry is None or not entry.data["prompt_sha256"]:
        raise AuditError(f"draft {draft}: nothing was asked of a model, so there is no prompt")
    return _replay(entry, store, templates)


def _replay(entry: AuditEntry, store: ReportIndex, templates: Path) -> Replay:
    data = entry.data
    differences = []
    if store.index_id != data["index"]:
        differences.append(f"the index is {store.index_id}, was {data['index']}")
    try:
        template = load_template(data["prompt"], templates=templates)
    except PromptTemplateError as error:
        raise AuditError(f"the prompt template of the draft is gone: {error}") from error
    hits = [_hit(each, store) for each in data["evidence"]]
    differences += [
        f"report {each['report_id']} has another text now"
        for each, hit in zip(data["evidence"], hits, strict=True)
        if hashlib.sha256(hit.record.text.encode()).hexdigest() != each["text_sha256"]
    ]
    try:
        prompt = render(template, data.get("variables", {}))
    except PromptTemplateError as error:
        raise AuditError(f"the prompt cannot be made again: {error}") from error
    if prompt.sha256 != data["prompt_sha256"] and not differences:
        differences.append("the template has changed since")
    return Replay(prompt, data["prompt_sha256"], tuple(differences), data["answer"])


def _hit(evidence: Mapping[str, Any], store: ReportIndex) -> Hit:
    record = store.get(evidence["report_id"])
    if record is None:
        raise AuditError(
            f"report {evidence['report_id']} is no longer in the store: the prompt cannot be made "
            "again. Restore the index it was made with."
        )
    return Hit(
        record,
        similarity=evidence["similarity"],
        rank=evidence["rank"],
        copies=evidence["copies"],
        why=evidence["why"],
    )
