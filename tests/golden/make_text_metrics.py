"""What the reference implementations say of our sentences, and how far ours are from them.

Without options: make tests/golden/text_metrics.json. `--table`: compare ours with it, as Markdown.
`--corpus FILE`: on how many sections of a studies.jsonl our tokeniser gives the very words of the
reference's. Needs pycocoevalcap 1.2 and Java. Only numbers and our own sentences are kept.
"""
# ruff: noqa: E402, T201 - the path is mended before our own imports

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

sys.path[0] = str(Path(__file__).resolve().parents[2])

from eval.metrics.base import Setup, metric_class
from eval.studies import Pair
from eval.text import COCO_PTB

GOLDEN = Path(__file__).parent


def read_pairs() -> list[dict[str, str]]:
    lines = (GOLDEN / "text_pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def make() -> None:
    pairs = read_pairs()
    ids = [pair["id"] for pair in pairs]
    references = PTBTokenizer().tokenize({p["id"]: [{"caption": p["reference"]}] for p in pairs})
    drafts = PTBTokenizer().tokenize({p["id"]: [{"caption": p["draft"]}] for p in pairs})
    bleu, bleu_each = Bleu(4).compute_score(references, drafts, verbose=0)
    rouge, rouge_each = Rouge().compute_score(references, drafts)
    cider, cider_each = Cider().compute_score(references, drafts)
    own = RougeScorer(["rougeL"], use_stemmer=False)
    own_each = [own.score(p["reference"], p["draft"])["rougeL"].fmeasure for p in pairs]
    sacre = BLEU(tokenize="none", force=True, smooth_method="none").corpus_score(
        [drafts[name][0] for name in ids], [[references[name][0] for name in ids]]
    )
    golden = {
        "made_by": {
            "script": "tests/golden/make_text_metrics.py",
            "packages": {n: version(n) for n in ("pycocoevalcap", "rouge_score", "sacrebleu")},
            "python": platform.python_version(),
        },
        "words": {
            name: {"reference": references[name][0], "draft": drafts[name][0]} for name in ids
        },
        "all": {
            **{f"BLEU-{n}": value for n, value in enumerate(bleu, 1)},
            "sacrebleu BLEU-4": sacre.score / 100,
            "ROUGE-L": sum(own_each) / len(own_each),
            "ROUGE-L β1.2": float(rouge),
            "CIDEr-D": float(cider),
        },
        "each": {
            **{f"BLEU-{n}": values for n, values in enumerate(bleu_each, 1)},
            "ROUGE-L": own_each,
            "ROUGE-L β1.2": [float(value) for value in rouge_each],
            "CIDEr-D": [float(value) for value in cider_each],
        },
    }
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    (GOLDEN / "text_metrics.json").write_text(text + "\n", encoding="utf-8")


def table() -> None:
    golden = json.loads((GOLDEN / "text_metrics.json").read_text(encoding="utf-8"))
    pairs = [Pair(p["id"], p["reference"], p["draft"]) for p in read_pairs()]
    setup = Setup(COCO_PTB, tuple(pair.reference for pair in pairs))
    by = {"rouge": {"ROUGE-L": "rouge-score 0.1.2"}}
    print(f"| measure (n = {len(pairs)} pairs) | reference | its value | ours | difference |")
    print("| --- | --- | ---: | ---: | ---: |")
    for key in ("bleu", "rouge", "cider"):
        built = metric_class(key)(setup)
        sums = built.score(pairs).sum(axis=0)
        for measure in built.measures:
            theirs, ours = golden["all"][measure.name], float(measure.combine(sums))
            source = by.get(key, {}).get(measure.name, "pycocoevalcap 1.2")
            print(
                f"| {measure.name} | {source} | {theirs:.6f} | {ours:.6f} | {ours - theirs:.0e} |"
            )
            if measure.name == "BLEU-4":
                also = golden["all"]["sacrebleu BLEU-4"]
                print(f"| BLEU-4 | sacrebleu 2.6.0 | {also:.6f} | {ours:.6f} | {ours - also:.0e} |")


def corpus(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {row.get(name, "").strip() for row in rows for name in ("findings", "impression")}
    texts = sorted(found - {""})
    words = PTBTokenizer().tokenize({at: [{"caption": t}] for at, t in enumerate(texts)})
    same = sum(COCO_PTB.clean(text) == words[at][0] for at, text in enumerate(texts))
    print(f"{same} of {len(texts)} different sections have the same words")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    if options.table:
        table()
    elif options.corpus:
        corpus(options.corpus)
    else:
        make()


if __name__ == "__main__":
    main()
