"""The browser of single studies: its data, and how it gets into the page unharmed."""

import json
from typing import Any

from markupsafe import Markup

from eval.results import SavedRun

_MOST_STUDIES = 1_000
_FIRST_MEASURES = ("ROUGE-L", "micro F1-14 (u=1)", "BLEU-1")
_OF_A_STUDY = ("scores", "normal", "text_in_train")


def browser_data(run: SavedRun) -> dict[str, Any]:
    """Studies for the script, worst first by the first measure that is there."""
    scores = {row["study_id"]: row for row in run.scores}
    measures = [name for name in run.result.measures() if _has_study_scores(run, name)]
    first = next((name for name in _FIRST_MEASURES if name in measures), measures[0])
    directions = {number.measure: number.direction for number in run.result.numbers}
    studies = [
        study | {name: scores[study["study_id"]][name] for name in _OF_A_STUDY}
        for study in run.studies
    ]
    sign = -1 if directions[first].startswith("lower") else 1

    def badness(study: dict[str, Any]) -> float:
        value = study["scores"][run.result.name].get(first)
        return float("inf") if value is None else sign * value

    studies.sort(key=badness)
    return {
        "name": run.result.name,
        "measures": measures,
        "first": first,
        "directions": directions,
        "total": len(studies),
        "studies": studies[:_MOST_STUDIES],
    }


def _has_study_scores(run: SavedRun, measure: str) -> bool:
    return any(row["scores"][run.result.name].get(measure) is not None for row in run.scores)


def script_json(value: Any) -> Markup:
    """JSON that cannot end its script element, whatever a report says."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above
