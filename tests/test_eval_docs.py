"""docs/metrics.md names every metric and command."""

import re
from pathlib import Path

from typer.testing import CliRunner

from eval.cli import app
from eval.metrics.base import KEYS

TEXT = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_every_metric_and_command_is_documented() -> None:
    assert all(f"`{key}`" in TEXT for key in KEYS)
    listed = CliRunner().invoke(app, ["--help"]).output
    commands = set(re.findall(r"^[│ ]+([a-z][a-z-]+)  ", listed, re.MULTILINE))
    assert {"score", "compare", "report", "label", "embed"} <= commands
    for command in commands:
        assert command in TEXT, command
