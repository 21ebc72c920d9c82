"""`eval label` and the labeller's measured accuracy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.labeller_accuracy import Labelled, read_labelled, table
from support.made_up_studies import write_jsonl

from eval.errors import EvalDataError
from eval.metrics.findings import FIVE_LABELS, POSITIVE_STATES, label_file, label_matrix
from rag.report_nlp.labeller import LABELS

GOLDEN = Path(__file__).parent / "golden" / "labeller_sentences.jsonl"


def test_each_text_gives_one_line_of_labels(tmp_path: Path) -> None:
    texts = ["No pneumothorax. Possible pneumonia. Cardiomegaly.", "", "PA and lateral views."]
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": text, "id": 7} for text in texts])
    first, second, third = map(json.loads, label_file(path))
    assert first == {
        "labels": {
            "Cardiomegaly": "positive",
            "Pneumonia": "uncertain",
            "Pneumothorax": "negative",
        }
    }
    assert second == {"labels": {}}
    assert set(third) == {"labels"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"txt": "x"}', "line 2: text Field required"),
        ('{"text": 3}', "line 2: text Input should be a valid string"),
        ("x", "not JSON"),
    ],
)
def test_a_bad_line_is_reported_before_any_output(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "Clear."}\n' + line + "\n")
    lines = label_file(path)
    with pytest.raises(EvalDataError, match=reason):
        next(lines)


def test_the_labeller_is_right_on_the_golden_sentences() -> None:
    rows = read_labelled(GOLDEN)
    assert len(rows) >= 200
    right = sum(row.truth == row.found for row in rows)
    assert right / len(rows) > 0.97


def test_the_accuracy_table_counts_correctly() -> None:
    rows = [
        Labelled("", {"Edema": "positive"}, {"Edema": "uncertain"}),
        Labelled("", {"Edema": "positive"}, {"Edema": "positive", "Fracture": "negative"}),
    ]
    _, line = table(rows)
    assert line.startswith("| all | 2 | 0.000")
    assert "1.000 [0.207, 1.000], 0.500" in line


def test_uncertain_counts_as_positive_or_negative_by_mapping() -> None:
    matrix = label_matrix("Possible pneumonia. Cardiomegaly. No edema.")
    for mapping, row in zip(POSITIVE_STATES, matrix, strict=True):
        assert row[LABELS.index("Pneumonia")] == (mapping == "u=1")
        assert row[LABELS.index("Cardiomegaly")]
        assert not row[LABELS.index("Edema")]
    assert set(FIVE_LABELS) < set(LABELS)


def test_the_rules_version_covers_all_modules_they_import() -> None:
    """A rule file that is not hashed would leave stale scores in the cache."""
    code = (
        "import sys, rag.report_nlp.labeller, rag.report_nlp.statements; "
        "print(*sorted(m for m in sys.modules if m.startswith('rag.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outside = {name for name in done.stdout.split() if not name.startswith("rag.report_nlp")}
    assert outside <= {"rag.schema"}
