"""Make tests/golden/text_metrics.json: what the reference implementations say of our sentences.

Run once, by hand, where pycocoevalcap 1.2 and Java are installed. Only numbers and words of our own
sentences are kept. `python benchmarks/golden_text_metrics.py`
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


def main() -> None:
    pairs = [json.loads(line) for line in (GOLDEN / "text_pairs.jsonl").open(encoding="utf-8")]
    ids = [pair["id"] for pair in pairs]
    references = PTBTokenizer().tokenize({p["id"]: [{"caption": p["reference"]}] for p in pairs})
    drafts = PTBTokenizer().tokenize({p["id"]: [{"caption": p["draft"]}] for p in pairs})
    bleu, bleu_each = Bleu(4).compute_score(references, drafts, verbose=0)
    rouge, rouge_each = Rouge().compute_score(references, drafts)
    cider, cider_each = Cider().compute_score(references, drafts)
    meteor, meteor_each = Meteor().compute_score(references, drafts)
    own = RougeScorer(["rougeL"], use_stemmer=False)
    own_each = [own.score(p["reference"], p["draft"])["rougeL"].fmeasure for p in pairs]
    sacre = BLEU(tokenize="none", force=True, smooth_method="none").corpus_score(
        [drafts[name][0] for name in ids], [[references[name][0] for name in ids]]
    )
    golden = {
        "made_by": {
            "script": "benchmarks/golden_text_metrics.py",
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
            "METEOR": meteor,
        },
        "each": {
            **{f"BLEU-{n}": values for n, values in enumerate(bleu_each, 1)},
            "ROUGE-L": own_each,
            "ROUGE-L β1.2": [float(value) for value in rouge_each],
            "CIDEr-D": [float(value) for value in cider_each],
            "METEOR": meteor_each,
        },
    }
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    (GOLDEN / "text_metrics.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
