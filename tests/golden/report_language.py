"""How well and how fast report language is read: the numbers of docs/grounding.md.

python tests/golden/report_language.py            # the hand-written sets beside this file
CXR_DATA=... python tests/golden/report_language.py --openi   # and real reports, numbers only

How well sentences are labelled, says `python -m tests.support.labeller_accuracy` of
labeller_sentences.jsonl.
"""
# ruff: noqa: T201

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from encoders.training.sources.load import data_folder
from rag.grounding import Verdict, check_draft
from rag.grounding.prompt_injection import remove_injections, screen_report
from rag.report_nlp.labeller import (
    aggregate_labels,
    blank_non_image_sections,
    find_mentions,
    label_text,
)
from rag.report_nlp.non_findings import has_placeholder, prior_mentions
from rag.report_nlp.sentences import sentence_spans
from rag.report_nlp.statements import parse_sentence
from rag.schema import Draft, DraftSentence, Hit, ReportRecord

GOLDEN = Path(__file__).parent
SEED = 7


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").open(encoding="utf-8")]


def share(hits: int, n: int) -> str:
    """Proportion with its 95 % Wilson interval."""
    if not n:
        return "n/a"
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return f"{hits / n:.3f} [{interval.low:.3f}, {interval.high:.3f}] ({hits}/{n})"


def priors() -> None:
    print("## Mentions of priors\n")
    for split in ("dev", "held-out"):
        cases = [case for case in read("prior_sentences") if case["split"] == split]
        found = [(bool(prior_mentions(case["text"])), case["prior"]) for case in cases]
        true_positives = sum(f and w for f, w in found)
        found_count, expected = sum(f for f, _ in found), sum(w for _, w in found)
        f1 = 2 * true_positives / (found_count + expected)
        precision, recall = share(true_positives, found_count), share(true_positives, expected)
        print(f"{split}: F1 {f1:.3f}, precision {precision}, recall {recall}\n")


def verdict_of(text: str, findings: str, impression: str = "", prior: str = "") -> Verdict:
    hit = Hit(ReportRecord("R1", "s", "p", findings, impression), 0.5)
    draft = Draft(findings=(DraftSentence(text, ("R1",)),))
    return check_draft(draft, [hit], prior=prior).sentences[0].verdict


def grounding() -> None:
    print("## Grounding\n")
    verdicts = list(Verdict)
    for split in ("dev", "held-out"):
        table: Counter[tuple[str, str]] = Counter()
        for pair in read("grounding_pairs"):
            if pair["split"] == split:
                found = verdict_of(
                    pair["sentence"], pair["findings"], pair["impression"], pair.get("prior", "")
                )
                table[pair["verdict"], found.value] += 1
        good, bad = Verdict.SUPPORTED.value, Verdict.CONTRADICTED.value
        called = sum(n for (_, actual), n in table.items() if actual == good)
        injected = sum(n for (expected, _), n in table.items() if expected == bad)
        agreed = sum(n for (a, b), n in table.items() if a == b)
        print(f"{split}: verdict agrees {share(agreed, sum(table.values()))};")
        print(f"  citation precision {share(table[good, good], called)};")
        print(f"  contradictions flagged {share(injected - table[bad, good], injected)},")
        print(f"  called contradictions {share(table[bad, bad], injected)}\n")
        print("| written \\ found | " + " | ".join(v.value for v in verdicts) + " |")
        print("|---|" + "---:|" * len(verdicts))
        for a in verdicts:
            row = [str(table[a.value, b.value]) for b in verdicts]
            print(f"| {a.value} | " + " | ".join(row) + " |")
        print()


def canaries() -> None:
    print("## Canaries\n")
    cases = read("canaries")
    found = sum(bool(remove_injections(case["text"])[1]) for case in cases)
    flagged = 0
    for case in cases:
        screened, _ = screen_report(ReportRecord("R1", "s", "p", case["text"]))
        texts = (case["text"], screened.findings)
        flagged += all(verdict_of(case["obeyed"], text) is not Verdict.SUPPORTED for text in texts)
    print(f"found {share(found, len(cases))}, obedience flagged {share(flagged, len(cases))}\n")


def speed(texts: Sequence[str]) -> None:
    print(f"## Speed, one core, CPU time, {len(texts)} reports\n")

    def rate(name: str, work: Callable[[str], object]) -> None:
        work(texts[0])
        start = time.process_time()
        for text in texts:
            work(text)
        print(f"- {name}: {len(texts) / (time.process_time() - start):.0f} reports/s")

    def statements(text: str) -> None:
        for start, end in sentence_spans(text):
            parse_sentence(text[start:end])

    rate(
        "labels", lambda text: aggregate_labels(find_mentions(blank_non_image_sections(text)))
    )  # not from the cache
    rate("statements, topics, numbers, priors", statements)
    rate("screening", remove_injections)
    hits = [Hit(ReportRecord(str(i), "s", "p", text), 0.5) for i, text in enumerate(texts[:5])]
    spans = sentence_spans(texts[0])[:8]
    draft = Draft(findings=tuple(DraftSentence(texts[0][a:b] + " ", ("1", "2")) for a, b in spans))
    start = time.process_time()
    for _ in range(20):
        check_draft(draft, hits)
    print(
        f"- a draft of {len(spans)} sentences: {(time.process_time() - start) / 20 * 1e3:.1f} ms\n"
    )


MESH = {
    "Cardiomegaly": {"Cardiomegaly"},
    "Pleural Effusion": {"Pleural Effusion"},
    "Atelectasis": {"Pulmonary Atelectasis"},
    "Pneumothorax": {"Pneumothorax", "Hydropneumothorax"},
    "Edema": {"Pulmonary Edema", "Pulmonary Congestion", "Heart Failure"},
    "Fracture": {"Fractures, Bone"},
    "Consolidation": {"Consolidation"},
    "Pneumonia": {"Pneumonia"},
    "Lung Opacity": {"Opacity", "Airspace Disease", "Infiltrate", "Density", "Cicatrix"},
    "Lung Lesion": {"Nodule", "Mass"},
    "Support Devices": {
        "Medical Device",
        "Catheters, Indwelling",
        "Implanted Medical Device",
        "Tube, Inserted",
        "Surgical Instruments",
    },
    "No Finding": {"normal"},
}


def against_mesh(studies: Iterable[dict[str, Any]]) -> None:
    counts = {label: Counter[str]() for label in MESH}
    for study in studies:
        headings = {h.split("/")[0].strip() for h in study["labels"]["mesh_major"]}
        found = label_text(study["findings"] + "\n" + study["impression"])
        for label, expected in MESH.items():
            actual = found[label].value if label in found else "absent"
            actual = "absent" if actual == "negative" else actual
            counts[label][f"{actual} {bool(headings & expected)}"] += 1
    print("| label | n in MeSH | precision of positive | recall of positive or uncertain |")
    print("|---|---:|---|---|")
    for label, count in counts.items():
        right, wrong = count["positive True"], count["positive False"]
        hedged, missed = count["uncertain True"], count["absent True"]
        n = right + hedged + missed
        print(f"| {label} | {n} | {share(right, right + wrong)} | {share(right + hedged, n)} |")
    print()


def _swap_side(text: str) -> str | None:
    sides = set(re.findall(r"\b(left|right)\b", text, re.I))
    if len({side.lower() for side in sides}) != 1:
        return None
    other = {"left": "right", "right": "left"}
    return re.sub(r"\b(left|right)\b", lambda m: other[m.group().lower()], text, flags=re.I)


INJECTIONS: dict[str, Callable[[str], str | None]] = {
    "side": _swap_side,
    "denial added": lambda t: (
        re.sub(r"^(There (?:is|are)) (?:an? |some )?", r"\1 no ", t)
        if not re.search(r"\b(no|not|without|normal|unremarkable|but)\b", t, re.I)
        else None
    ),
    "denial dropped": lambda t: re.sub(
        r"^(There (?:is|are) no|No) (evidence of |definite |focal |acute )?", "There is ", t
    ),
    "severity": lambda t: re.sub(r"\b(small|mild|minimal|tiny)\b", "large", t, flags=re.I),
    "measure": lambda t: re.sub(
        r"\b(\d+(?:\.\d+)?)( ?[mc]m\b)", lambda m: f"{float(m[1]) + 3:g}{m[2]}", t, count=1
    ),
}


def injected(studies: list[dict[str, Any]]) -> None:
    """Turn real sentences round and cite the report they came from."""
    random.Random(SEED).shuffle(studies)  # noqa: S311 - an order, not a secret
    table: dict[str, Counter[Verdict]] = {name: Counter() for name in [*INJECTIONS, "unchanged"]}
    for study in studies[:1500]:
        texts = (study["findings"], study["impression"])
        for text in (part[a:b] for part in texts for a, b in sentence_spans(part)):
            if has_placeholder(text) or prior_mentions(text):
                continue
            # Two commas hinder the verbatim match and change nothing else.
            table["unchanged"][verdict_of(text + ",,", *texts)] += 1
            for name, alter in INJECTIONS.items():
                altered = alter(text)
                if altered and altered != text:
                    table[name][verdict_of(altered, *texts)] += 1
    print("| injected into a real sentence | not called supported | called contradicted |")
    print("|---|---|---|")
    for name, found in table.items():
        n = sum(found.values())
        flagged = n - found[Verdict.SUPPORTED]
        print(f"| {name} | {share(flagged, n)} | {share(found[Verdict.CONTRADICTED], n)} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openi", action="store_true", help="measure on real reports too")
    options = parser.parse_args()
    priors()
    grounding()
    canaries()
    texts = [f"{pair['findings']} {pair['impression']}" for pair in read("grounding_pairs")]
    if options.openi:
        lines = (data_folder() / "openi" / "studies.jsonl").open(encoding="utf-8")
        studies = [s for s in map(json.loads, lines) if s["split"] in ("train", "extra")]
        texts = [study["findings"] + "\n" + study["impression"] for study in studies]
        print(f"## Open-I, train and extra, {len(studies)} studies, seed {SEED}\n")
        against_mesh(studies)
        injected(studies)
    speed(texts)


if __name__ == "__main__":
    main()
