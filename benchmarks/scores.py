"""Time and memory of `cxr-rag eval score`, and throughput of its text metrics.

Runs the whole command (all rule-based metrics, 10 000 bootstrap samples, baselines, leak check)
without and with its cache, also on ten times as many studies. Then compares pairs per second of
BLEU, ROUGE-L and CIDEr-D with the reference implementations in pycocoevalcap 1.2, the faster of two
runs each. Reports are made up from our own sentences.

    python benchmarks/scores.py [--studies 590] [--large 5900]
"""
# ruff: noqa: S311 - made-up data

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from eval.metrics.base import Setup, metric_class
from eval.studies import Pair
from eval.text import COCO_PTB

SENTENCES = (
    "The heart is normal in size.",
    "The heart is mildly enlarged.",
    "The lungs are clear.",
    "There is a small left pleural effusion.",
    "There is no pleural effusion.",
    "No pneumothorax is seen.",
    "Bibasilar opacities, likely atelectasis.",
    "Patchy right lower lobe airspace disease may represent pneumonia.",
    "A right internal jugular catheter ends in the superior vena cava.",
    "Degenerative changes of the thoracic spine are stable since the prior exam.",
    "Calcified granuloma in the left upper lobe.",
    "Low lung volumes with crowding of the bronchovascular markings.",
)
COMMAND = """
import resource, sys
from eval.cli import app
app(sys.argv[1:], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def report(generator: random.Random) -> list[str]:
    """Sentences of a report of about forty words, hardly ever the same twice."""
    chosen = generator.sample(SENTENCES, generator.randint(4, 7))
    return [f"{text[:-1]} {generator.randint(1, 9)}." for text in chosen]


def make_files(folder: Path, studies: int) -> None:
    """Write references, training reports, and drafts that cite them."""
    generator = random.Random(7)
    reports = {name: [report(generator) for _ in range(studies)] for name in ("s", "t")}
    sources = [generator.randrange(studies) for _ in range(studies)]
    rows = {
        f"{name}.jsonl": [
            {"study_id": f"{name}{i}", "patient_id": f"{name}p{i // 2}", "report": " ".join(text)}
            for i, text in enumerate(texts)
        ]
        for name, texts in reports.items()
    }
    rows["predictions.jsonl"] = [
        {
            "study_id": f"s{i}",
            "findings": [{"text": t, "sources": [f"t{n}"]} for t in reports["t"][n]],
            "evidence": [{"report_id": f"t{n}", "text": " ".join(reports["t"][n])}],
            "confidence": generator.random(),
        }
        for i, n in enumerate(sources)
    ]
    for name, lines in rows.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in lines))


def command_row(studies: int) -> str:
    """A table row: seconds without and with the cache, and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), studies)
        options = (
            "predictions.jsonl --references s.jsonl --train t.jsonl --out out --cache c.sqlite"
        )
        command = [sys.executable, "-c", COMMAND, "score", *options.split()]
        seconds, memory = [], 0.0
        for _ in range(2):
            started = time.perf_counter()
            done = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True)  # noqa: S603
            seconds.append(time.perf_counter() - started)
            memory = max(memory, float(done.stdout.splitlines()[-1]))
    return f"| {studies} | {seconds[0]:.1f} | {seconds[1]:.1f} | {memory:.0f} |"


def fastest(work: Callable[[], object]) -> float:
    """Seconds of the faster of two runs."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def print_text_metrics(studies: int) -> None:
    """Pairs per second, ours and the reference implementations' on the same tokens."""
    generator = random.Random(3)
    texts = [(" ".join(report(generator)), " ".join(report(generator))) for _ in range(studies)]
    pairs = [Pair(str(i), *pair) for i, pair in enumerate(texts)]
    setup = Setup(COCO_PTB, tuple(pair.reference for pair in pairs))
    references = {p.study_id: [COCO_PTB.clean(p.reference)] for p in pairs}
    drafts = {p.study_id: [COCO_PTB.clean(p.draft)] for p in pairs}
    reference_metrics: dict[str, Callable[[], object]] = {
        "bleu": lambda: Bleu(4).compute_score(references, drafts, verbose=0),
        "rouge": lambda: Rouge().compute_score(references, drafts),
        "cider": lambda: Cider().compute_score(references, drafts),
    }
    print("\n| metric | ours, pairs/s | pycocoevalcap 1.2, pairs/s | ratio |\n|---|---:|---:|---:|")
    for key, score in reference_metrics.items():
        metric = metric_class(key)(setup)
        ours = studies / fastest(lambda metric=metric: metric.score(pairs))
        theirs = studies / fastest(score)
        print(f"| {key} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=590)
    parser.add_argument("--large", type=int, default=5_900)
    options = parser.parse_args()
    print("| studies | first run, s | cached, s | peak memory, MB |\n|---:|---:|---:|---:|")
    for studies in (options.studies, options.large):
        print(command_row(studies), flush=True)
    print_text_metrics(options.studies)


if __name__ == "__main__":
    main()
