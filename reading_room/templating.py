"""Renders the panels of the page from ``templates/``; whatever is put in is escaped."""

from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from reading_room import strings


def anchor(report_id: str) -> str:
    """The id of a report's card on the page."""
    return f"report-{report_id}"


def minute(at: str) -> str:
    """An ISO time to the minute, in its own zone."""
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M")


def readable(name: str) -> str:
    """The name of a finding as text, as in "pleural effusion"."""
    return name.replace("_", " ").lower()


def render(template: str, **values: Any) -> str:
    """The HTML of a template."""
    return _ENVIRONMENT.get_template(template).render(values).strip()


_ENVIRONMENT = Environment(
    loader=PackageLoader("reading_room"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals.update(strings=strings, anchor=anchor, minute=minute, readable=readable)
