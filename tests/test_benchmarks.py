"""Benchmarks are run by hand; here they only start."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
NEED_MORE = {"scores.py"}  # pycocoevalcap, which is not a dependency


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_every_benchmark_starts(script: Path) -> None:
    if script.name in NEED_MORE:
        pytest.importorskip("pycocoevalcap", reason="pycocoevalcap 1.2 is not installed")
    subprocess.run([sys.executable, script, "--help"], check=True, capture_output=True, timeout=120)
