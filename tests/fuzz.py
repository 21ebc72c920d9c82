"""Feeds thousands of damaged files to every file reader, and prints a table.

    python tests/fuzz.py [--mutations 10000] [--seed 1] [--keep FOLDER]

Hypothesis draws the edits (see `mutations`), so a seed reproduces a run. It is not guided by
coverage: the code that crashes is native. A fresh, watched process reads each kind of file
(`hostile_reader`). Files that find a bug are kept.
"""

# ruff: noqa: T201 - prints a table
import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from support import mutations
from support.hostile_reader import READERS, ReadResult, WatchedReader

WEIGHTS = {"DICOM": 40, "PNG": 10, "JPEG": 10}  # percent; the other kinds share the rest
_REST = (100 - sum(WEIGHTS.values())) / (len(READERS) - len(WEIGHTS))


@dataclass(slots=True)
class FuzzTally:
    """Results for one kind of file.

    Attributes:
        outcomes: counts by outcome.
        slowest: most seconds of CPU time.
        mib: peak resident memory of the reader and its decoders.
        bugs: description to the first file that showed it.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    mib: float = 0.0
    bugs: dict[str, bytes] = field(default_factory=dict)

    def add(self, result: ReadResult, data: bytes) -> None:
        self.slowest = max(self.slowest, result.seconds)
        self.mib = max(self.mib, result.mib)
        if result.bug:
            self.bugs.setdefault(result.bug, data)
        self.outcomes["BUG" if result.bug else result.outcome] += 1


def fuzz(kind: str, count: int, seed: int, watched: WatchedReader) -> FuzzTally:
    """Read ``count`` damaged files of a kind, after checking that undamaged ones are accepted."""
    tally = FuzzTally()
    seeds = mutations.seeds(kind)
    for data in seeds:
        result = watched.read(kind, data)
        assert result.outcome == "accepted", f"a seed of {kind} is not accepted: {result}"

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(index=st.sampled_from(range(len(seeds))), edits=mutations.edits())
    def read(index: int, edits: list[mutations.Edit]) -> None:
        data = mutations.apply_edits(kind, seeds[index], edits)
        tally.add(watched.read(kind, data), data)

    read()
    return tally


def mutation_count(kind: str, total: int) -> int:
    """How many of all mutations are of a kind."""
    return round(total * WEIGHTS.get(kind, _REST) / 100)


def format_row(kind: str, tally: FuzzTally) -> str:
    """A row of the table."""
    n = tally.outcomes.total()
    accepted = sum(v for k, v in tally.outcomes.items() if k.startswith("accepted"))
    refused = ", ".join(
        f"{name.removeprefix('refused: ').removeprefix('refused, ')} {count}"
        for name, count in tally.outcomes.most_common()
        if not name.startswith("accepted") and name != "BUG"
    )
    bugs = tally.outcomes["BUG"]
    cost = f"{bugs} | {tally.slowest:.2f} | {tally.mib:.0f}"
    return f"| {kind} | {n} | {accepted} | {refused} | {cost} |"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for files that found a bug")
    arguments = parser.parse_args()
    print(f"{arguments.mutations} mutations, seed {arguments.seed}\n")
    print("| kind | n | accepted | refused | bugs | slowest, s | peak, MiB |")
    print("|---|---|---|---|---|---|---|")
    bugs = 0
    for kind in READERS:
        with WatchedReader() as watched:
            tally = fuzz(kind, mutation_count(kind, arguments.mutations), arguments.seed, watched)
        print(format_row(kind, tally), flush=True)
        for number, (bug, data) in enumerate(tally.bugs.items()):
            bugs += 1
            print(f"{kind}: {bug}", file=sys.stderr)
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / f"{kind.replace(' ', '-')}-{number}").write_bytes(data)
    sys.exit(1 if bugs else 0)


if __name__ == "__main__":
    main()
