"""Speed of the harness: a whole run, its memory as n grows, and text measures beside references.

Everything is made up from a few sentences of ours, with a seed; nothing is downloaded. Prints
Markdown. `python benchmarks/scores.py [--studies 590] [--large 5900]`
"""
# ruff: noqa: S311 - made-up data

import argparse
import json
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from eval.cli import app
from eval.metrics.base import Setup, metric_class
from eval.studies import Pair
from eval.text import COCO_PTB

SENTENCES = [
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
    "The mediastinal contours are within normal limits.",
    "Pulmonary vascularity is mildly increased.",
    "Low lung volumes with crowding of the bronchovascular markings.",
]


def report(generator: random.Random) -> str:
    """A report of about forty words, none like another."""
    chosen = generator.sample(SENTENCES, generator.randint(4, 7))
    return " ".join(f"{text[:-1]} {generator.randint(1, 9)}." for text in chosen)


def make_files(folder: Path, studies: int) -> list[str]:
    """References, training reports and drafts with citations; the options that score them."""
    generator = random.Random(7)
    texts = [report(generator) for _ in range(studies)]
    train = [report(generator) for _ in range(studies)]
    with (folder / "references.jsonl").open("w") as file:
        for at, text in enumerate(texts):
            row = {"study_id": f"s{at}", "patient_id": f"p{at // 2}", "report": text}
            file.write(json.dumps(row) + "\n")
    with (folder / "train.jsonl").open("w") as file:
        for at, text in enumerate(train):
            row = {"study_id": f"t{at}", "patient_id": f"q{at}", "report": text}
            file.write(json.dumps(row) + "\n")
    with (folder / "predictions.jsonl").open("w") as file:
        for at in range(studies):
            source = generator.randrange(studies)
            sentences = [s if s.endswith(".") else f"{s}." for s in train[source].split(". ")]
            cited = [{"text": s, "sources": [f"t{source}"]} for s in sentences]
            evidence = [{"report_id": f"t{source}", "text": train[source]}]
            row = {"study_id": f"s{at}", "findings": cited, "evidence": evidence}
            file.write(json.dumps(row | {"confidence": generator.random()}) + "\n")
    names = ("references", "train")
    files = [part for name in names for part in (f"--{name}", str(folder / f"{name}.jsonl"))]
    return [str(folder / "predictions.jsonl"), *files, "--out", str(folder / "out")]


def whole_run(studies: int) -> tuple[float, float, float]:
    """Seconds of a first and of a second run, and the peak of memory in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = make_files(folder, studies)
        command = [sys.executable, __file__, "--child", *options]
        command += ["--cache", str(folder / "scores.sqlite")]
        seconds, memory = [], 0.0
        for _ in range(2):
            started = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
            seconds.append(time.perf_counter() - started)
            memory = max(memory, float(done.stdout.splitlines()[-1]))
        return seconds[0], seconds[1], memory


def child(options: list[str]) -> None:
    """`cxr-rag eval score` in a process of its own; last line: peak memory in MB."""
    app(["score", *options, "--samples", "10000"], standalone_mode=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@contextmanager
def timed(found: dict[str, float], name: str) -> Iterator[None]:
    """Seconds of a block."""
    started = time.perf_counter()
    yield
    found[name] = time.perf_counter() - started


def text_measures(studies: int) -> None:
    """Pairs a second of ours and of the reference implementations, on the same words."""
    generator = random.Random(3)
    pairs = [Pair(str(at), report(generator), report(generator)) for at in range(studies)]
    setup = Setup(COCO_PTB, tuple(pair.reference for pair in pairs))
    references = {p.study_id: [COCO_PTB.joined(p.reference)] for p in pairs}
    drafts = {p.study_id: [COCO_PTB.joined(p.draft)] for p in pairs}
    rows = []
    for key, theirs in reference_scorers(pairs, references, drafts).items():
        for name, score in theirs.items():
            ours: dict[str, float] = {}
            built = metric_class(key)(setup)
            built.score(pairs[:10])
            # one after the other, twice, and the quicker of each counts
            best = {"ours": float("inf"), "theirs": float("inf")}
            for _ in range(2):
                with timed(ours, "ours"):
                    built.score(pairs)
                with timed(ours, "theirs"):
                    score()
                best = {side: min(best[side], ours[side]) for side in best}
            rows.append((key, name, studies / best["ours"], studies / best["theirs"]))
    print("\n| measure | reference implementation | ours, pairs/s | reference, pairs/s | ratio |")
    print("| --- | --- | ---: | ---: | ---: |")
    for key, name, ours_speed, theirs_speed in rows:
        ratio = ours_speed / theirs_speed
        print(f"| {key} | {name} | {ours_speed:,.0f} | {theirs_speed:,.0f} | {ratio:.2f} |")


def reference_scorers(
    pairs: list, references: dict, drafts: dict
) -> dict[str, dict[str, Callable[[], object]]]:
    """What a user would take instead, by our metric's key."""
    sacre = BLEU(tokenize="none", force=True)
    plain = RougeScorer(["rougeL"])
    return {
        "bleu": {
            "pycocoevalcap 1.2": lambda: Bleu(4).compute_score(references, drafts, verbose=0),
            "sacrebleu 2.6.0": lambda: sacre.corpus_score(
                [text for (text,) in drafts.values()], [[t for (t,) in references.values()]]
            ),
        },
        "rouge": {
            "pycocoevalcap 1.2": lambda: Rouge().compute_score(references, drafts),
            "rouge-score 0.1.2": lambda: [plain.score(p.reference, p.draft) for p in pairs],
        },
        "cider": {"pycocoevalcap 1.2": lambda: Cider().compute_score(references, drafts)},
    }


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=590)
    parser.add_argument("--large", type=int, default=5_900)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}\n")
    print("| studies | first run, s | from the cache, s | peak memory, MB |")
    print("| ---: | ---: | ---: | ---: |")
    for studies in (options.studies, options.large):
        first, again, memory = whole_run(studies)
        print(f"| {studies} | {first:.1f} | {again:.1f} | {memory:.0f} |")
    text_measures(options.studies)


if __name__ == "__main__":
    main()
