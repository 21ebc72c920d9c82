"""Thousands of damaged files against every reader of files; prints a table.

    python tests/fuzz.py [--mutations 10000] [--seed 1] [--keep FOLDER]

Hypothesis draws the edits (see `mutations`), so the seed is the run; it is not guided by coverage,
because what crashes is native code that no Python tracer sees. Each kind of file is read by a fresh
process under watch (`hostile_reader`). Files that find a bug are kept for replay.
"""

# ruff: noqa: T201 - its table is its output
import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from support import mutations
from support.hostile_reader import READERS, Verdict, Watched

WEIGHTS = {"DICOM": 40, "PNG": 10, "JPEG": 10}  # of 100; the others share what is left
_REST = (100 - sum(WEIGHTS.values())) / (len(READERS) - len(WEIGHTS))


@dataclass(slots=True)
class Tally:
    """What came of one kind of file.

    Attributes:
        outcomes: how often each.
        slowest: seconds of the processor.
        mib: most resident memory of the reader and its decoders.
        bugs: by description, the first file of each.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    mib: float = 0.0
    bugs: dict[str, bytes] = field(default_factory=dict)

    def add(self, verdict: Verdict, data: bytes) -> None:
        """Count one."""
        self.slowest = max(self.slowest, verdict.seconds)
        self.mib = max(self.mib, verdict.mib)
        if verdict.bug:
            self.bugs.setdefault(verdict.bug, data)
        self.outcomes["BUG" if verdict.bug else verdict.outcome] += 1


def fuzz(kind: str, count: int, seed: int, watched: Watched) -> Tally:
    """Read so many damaged files of a kind.

    Raises:
        AssertionError: an undamaged one is not accepted.
    """
    tally = Tally()
    known = mutations.seeds(kind)
    for one in known:
        verdict = watched.read(kind, one)
        assert verdict.outcome == "accepted", f"a seed of {kind} is not accepted: {verdict}"

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(which=st.sampled_from(range(len(known))), what=mutations.edits())
    def read(which: int, what: list[mutations.Edit]) -> None:
        data = mutations.mutated(kind, known[which], what)
        tally.add(watched.read(kind, data), data)

    read()
    return tally


def share(kind: str, mutations_in_all: int) -> int:
    """How many of all mutations are of a kind."""
    return round(mutations_in_all * WEIGHTS.get(kind, _REST) / 100)


def as_row(kind: str, tally: Tally) -> str:
    """A line of the table."""
    n = tally.outcomes.total()
    accepted = sum(v for k, v in tally.outcomes.items() if k.startswith("accepted"))
    refused = ", ".join(
        f"{name.removeprefix('refused: ').removeprefix('refused, ')} {many}"
        for name, many in tally.outcomes.most_common()
        if not name.startswith("accepted") and name != "BUG"
    )
    bugs = tally.outcomes["BUG"]
    cost = f"{bugs} | {tally.slowest:.2f} | {tally.mib:.0f}"
    return f"| {kind} | {n} | {accepted} | {refused} | {cost} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for files that found a bug")
    asked = parser.parse_args()
    print(f"{asked.mutations} mutations, seed {asked.seed}\n")
    print("| kind | n | accepted | refused | bugs | slowest, s | peak, MiB |")
    print("|---|---|---|---|---|---|---|")
    found = 0
    for kind in READERS:
        with Watched() as watched:
            tally = fuzz(kind, share(kind, asked.mutations), asked.seed, watched)
        print(as_row(kind, tally), flush=True)
        for number, (bug, data) in enumerate(tally.bugs.items()):
            found += 1
            print(f"{kind}: {bug}", file=sys.stderr)
            if asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                (asked.keep / f"{kind.replace(' ', '-')}-{number}").write_bytes(data)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
