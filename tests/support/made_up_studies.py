"""A small data set of made-up reports, and predictions for it, as files."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NORMAL = "The heart is normal in size. The lungs are clear. No effusion or pneumothorax."
SENTENCES = [
    "There is a small left pleural effusion.",
    "The heart is enlarged.",
    "Right lower lobe consolidation is seen.",
    "There is bibasilar atelectasis.",
    "No pneumothorax is seen.",
    "The lungs are clear.",
    "A right PICC ends in the superior vena cava.",
    "Pulmonary edema is present.",
]


def reports(count: int, *, first: str = "S", seed: int = 0) -> list[dict[str, Any]]:
    """References: two studies per patient, every third one normal."""
    generator = random.Random(seed)  # noqa: S311 - made-up data
    rows = []
    for i in range(count):
        normal = i % 3 == 0
        findings = NORMAL if normal else " ".join(generator.sample(SENTENCES, 3))
        rows.append(
            {
                "study_id": f"{first}{i:03d}",
                "patient_id": f"{first}p{i // 2:03d}",
                "findings": findings,
                "impression": "Normal chest." if normal else findings.split(". ")[0] + ".",
            }
        )
    return rows


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Rows as lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def drafts(references: list[dict[str, Any]], *, seed: int = 1) -> list[dict[str, Any]]:
    """Predictions with citations and confidence, right in about two of three sentences."""
    generator = random.Random(seed)  # noqa: S311 - made-up data
    rows = []
    for row in references:
        reference_sentences = [
            s if s.endswith(".") else s + "." for s in row["findings"].split(". ")
        ]
        sentences = [
            s if generator.random() < 0.7 else generator.choice(SENTENCES)
            for s in reference_sentences
        ]
        rows.append(
            {
                "study_id": row["study_id"],
                "status": "ok",
                "findings": [{"text": s, "sources": ["T001"]} for s in sentences],
                "impression": [{"text": row["impression"], "sources": ["T002"]}],
                "evidence": [
                    {"report_id": "T001", "similarity": 0.9, "text": row["findings"]},
                    {"report_id": "T002", "similarity": 0.8, "text": row["impression"]},
                ],
                "confidence": sum(
                    a == b for a, b in zip(reference_sentences, sentences, strict=True)
                )
                / len(reference_sentences),
                "llm": "made-up",
            }
        )
    return rows
