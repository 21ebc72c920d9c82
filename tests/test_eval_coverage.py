"""The bootstrap's promise, simulated: a 95 % interval holds the truth in 95 of 100 data sets."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "bootstrap_coverage.py"


@pytest.mark.slow
def test_the_interval_holds_the_truth_in_95_of_100_data_sets() -> None:
    """1 000 simulations a case: within 1.5 points, and two standard errors of the simulation.

    docs/metrics.md has 2 000 simulations, more cases, and what happens if patients are ignored.
    """
    cases = ["mean of a skewed score", "BLEU-4", "micro F1-14"]
    options = ["--simulations", "1000", "--samples", "600", "--patients", "150", "--json"]
    command = [sys.executable, str(SCRIPT), *options, "--only", *cases]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert [row["measure"] for row in found] == cases
    for row in found:
        assert abs(row["coverage"] - 0.95) <= 0.015 + 2 * row["error"], row
    assert abs(sum(row["coverage"] for row in found) / len(found) - 0.95) <= 0.015
