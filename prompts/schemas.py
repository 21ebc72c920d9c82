"""JSON schemas that the LLM server enforces while it decodes, one for each way of drafting.

Ids are enums: an answer that names a sentence or a report that was not shown cannot be produced.
Knows nothing of reports or of how ids were made.
"""

from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "none"
"""The answer for a heading none of whose sentences is better than another."""


def selection_schema(slots: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One choice a heading: ``{"heart": "A2", "lungs": "none", ...}``.

    Args:
        slots: heading -> ids of its sentences, in the order in which they are shown.
    """
    properties = {name: {"type": "string", "enum": [*ids, NOTHING]} for name, ids in slots.items()}
    return _closed_object(properties)


def written_schema(
    report_ids: Sequence[str], *, max_findings: int = 12, max_impression: int = 4
) -> dict[str, Any]:
    """Findings and impression as lists of ``{"text": ..., "sources": [report id, ...]}``."""
    sentence = _closed_object(
        {
            "text": {"type": "string", "minLength": 3, "maxLength": 300},
            "sources": {
                "type": "array",
                "items": {"type": "string", "enum": list(report_ids)},
                "minItems": 1,
                "maxItems": len(report_ids),
            },
        }
    )
    return _closed_object(
        {
            "findings": _sentences(sentence, most=max_findings),
            "impression": _sentences(sentence, most=max_impression),
        }
    )


def _sentences(sentence: dict[str, Any], *, most: int) -> dict[str, Any]:
    return {"type": "array", "items": sentence, "minItems": 1, "maxItems": most}


def _closed_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
