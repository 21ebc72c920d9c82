"""How long `cxr-rag eval score` takes, and how fast its text measures are beside what they replace.

The whole command (all rule-based measures, 10 000 bootstrap samples, baselines, leak gate), first
without and then with its cache, in a process of its own with its peak of memory; at ten times as
many studies too. Then pairs a second of BLEU, ROUGE-L and CIDEr-D on the same words, ours and the
reference implementations, one after the other in one run: the quicker of two each.

Everything is made up from a few sentences of ours, with a seed; nothing is downloaded. Needs
pycocoevalcap 1.2. Prints Markdown.

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
    """Sentences of about forty words, no report like another."""
    chosen = generator.sample(SENTENCES, generator.randint(4, 7))
    return [f"{text[:-1]} {generator.randint(1, 9)}." for text in chosen]


def make_files(folder: Path, studies: int) -> None:
    """References, training reports, and drafts that cite them."""
    generator = random.Random(7)
    reports = {name: [report(generator) for _ in range(studies)] for name in ("s", "t")}
    sources = [generator.randrange(studies) for _ in range(studies)]
    rows = {
        f"{name}.jsonl": [
            {"study_id": f"{name}{at}", "patient_id": f"{name}p{at // 2}", "report": " ".join(text)}
            for at, text in enumerate(texts)
        ]
        for name, texts in reports.items()
    }
    rows["predictions.jsonl"] = [
        {
            "study_id": f"s{at}",
            "findings": [{"text": t, "sources": [f"t{n}"]} for t in reports["t"][n]],
            "evidence": [{"report_id": f"t{n}", "text": " ".join(reports["t"][n])}],
            "confidence": generator.random(),
        }
        for at, n in enumerate(sources)
    ]
    for name, lines in rows.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in lines))


def whole_run(studies: int) -> str:
    """A row: seconds of a first and of a second run, and the peak of memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), studies)
        options = (
            "predictions.jsonl --references s.jsonl --train t.jsonl --out out --cache c.sqlite"
        )
        command = [sys.executable, "-c", COMMAND, "score", *options.split()]
        seconds, memory = [], 0.0
        for _ in range(2):
            began = time.perf_counter()
            done = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True)  # noqa: S603
            seconds.append(time.perf_counter() - began)
            memory = max(memory, float(done.stdout.splitlines()[-1]))
    return f"| {studies} | {seconds[0]:.1f} | {seconds[1]:.1f} | {memory:.0f} |"


def quickest(work: Callable[[], object]) -> float:
    """Seconds of the quicker of two."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def print_text_measures(studies: int) -> None:
    """Pairs a second of ours and of the reference implementations, on the same words."""
    generator = random.Random(3)
    texts = [(" ".join(report(generator)), " ".join(report(generator))) for _ in range(studies)]
    pairs = [Pair(str(at), *both) for at, both in enumerate(texts)]
    setup = Setup(COCO_PTB, tuple(pair.reference for pair in pairs))
    references = {p.study_id: [COCO_PTB.clean(p.reference)] for p in pairs}
    drafts = {p.study_id: [COCO_PTB.clean(p.draft)] for p in pairs}
    theirs: dict[str, Callable[[], object]] = {
        "bleu": lambda: Bleu(4).compute_score(references, drafts, verbose=0),
        "rouge": lambda: Rouge().compute_score(references, drafts),
        "cider": lambda: Cider().compute_score(references, drafts),
    }
    print(
        "\n| measure | ours, pairs/s | pycocoevalcap 1.2, pairs/s | ratio |\n|---|---:|---:|---:|"
    )
    for key, score in theirs.items():
        metric = metric_class(key)(setup)
        own = studies / quickest(lambda metric=metric: metric.score(pairs))
        other = studies / quickest(score)
        print(f"| {key} | {own:,.0f} | {other:,.0f} | {own / other:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=590)
    parser.add_argument("--large", type=int, default=5_900)
    options = parser.parse_args()
    print("| studies | first run, s | from the cache, s | peak memory, MB |\n|---:|---:|---:|---:|")
    for studies in (options.studies, options.large):
        print(whole_run(studies), flush=True)
    print_text_measures(options.studies)


if __name__ == "__main__":
    main()
