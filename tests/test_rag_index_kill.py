"""kill -9 while an index is being made, at fifty points: nothing lost, nothing doubled.

Half of the kills come at a random moment, whatever is running then; half at a chosen file
operation of ours (the n-th open, rename, mkdir, remove ...), so that the short steps in which an
edition is published and the old one deleted are hit as well.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_encoder import FakeEncoder
from small_corpus import small_corpus

from rag.corpus import make_corpus
from rag.index import build_index, delete_from_index
from rag.index.check import verify_index
from rag.store import SearchMode, open_store
from rag.store.journal import EmbeddingJournal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kill -9 and its consequences as on Linux"),
]

OLD = small_corpus(40)
GROWN = small_corpus(90)
LESS = make_corpus(OLD.name, records=GROWN.records[10:], licence=OLD.licence,
                   attribution=OLD.attribution)  # fmt: skip
CORPORA = {"first": OLD, "grown": GROWN, "less": LESS}

INGEST = """
import os, signal, sys
from pathlib import Path
from fake_encoder import FakeEncoder
from test_rag_index_kill import CORPORA
from rag.index import build_index
corpus, directory, kill_at = CORPORA[sys.argv[1]], sys.argv[2], int(sys.argv[3])
steps = 0
def count(event, arguments):
    global steps
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate",
                 "subprocess.Popen") and directory in str(arguments[0]) + str(arguments[-1:]):
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
print("go", flush=True)
build_index(corpus, FakeEncoder(), Path(directory))
print(steps, flush=True)
"""


def ingest(directory: Path, corpus: str, *, kill_at: int = 0) -> subprocess.Popen[str]:
    """Start indexing in another process and return once its imports are done."""
    process = subprocess.Popen(
        [sys.executable, "-c", INGEST, corpus, str(directory), str(kill_at)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout
    assert process.stdout.readline() == "go\n"
    return process


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the old collection, to be copied."""
    directory = tmp_path_factory.mktemp("before") / "store"
    build_index(OLD, FakeEncoder(), directory)
    return directory


@pytest.fixture(scope="module")
def measured(
    before: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[float, int]]:
    """How long an undisturbed run of each kind takes, and how many file operations it has."""
    found = {}
    for kind in CORPORA:
        directory = tmp_path_factory.mktemp("measured") / "store"
        if kind != "first":
            shutil.copytree(before, directory)
        process = ingest(directory, kind)
        started = time.perf_counter()
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        found[kind] = (time.perf_counter() - started, int(output))
    return found


@pytest.mark.parametrize("trial", range(50))
def test_killed_at_any_point(
    tmp_path: Path, before: Path, measured: dict[str, tuple[float, int]], trial: int
) -> None:
    rng = random.Random(trial)  # noqa: S311 - a schedule, not a secret
    kind = ("grown", "less", "first")[trial % 3]
    seconds, steps = measured[kind]
    directory = tmp_path / "store"
    if kind != "first":
        shutil.copytree(before, directory)
    if trial % 2:
        process = ingest(directory, kind, kill_at=1 + (trial // 2) * steps // 25)
    else:
        process = ingest(directory, kind)
        time.sleep(rng.uniform(0, seconds))
        process.kill()
    process.communicate(timeout=120)
    new = {record.report_id for record in CORPORA[kind].records}
    old = {record.report_id for record in OLD.records} if kind != "first" else None

    if (directory / "current").exists():  # what counts is whole: all of the old or all of the new
        with open_store(directory, search=SearchMode.EXACT) as store:
            ids = store._edition.catalogue.report_ids
            assert set(ids) in ([old, new] if old else [new])
            assert len(ids) == len(set(ids))
    else:
        assert old is None
    done = set(EmbeddingJournal(directory, FakeEncoder()).read()) if directory.exists() else set()

    encoder = FakeEncoder()
    report = build_index(CORPORA[kind], encoder, directory)  # and the same command finishes it
    assert not {text for text in encoder.embedded if _hash(text) in done}
    assert report.kept + report.added + report.changed == len(new)
    assert verify_index(directory).passed
    with open_store(directory, search=SearchMode.EXACT) as store:
        assert store._edition.catalogue.report_ids == sorted(new)
    names = {path.name for path in directory.iterdir()}
    assert len([name for name in names if name.startswith("edition-")]) == 1
    assert not names & {"building", "embedded.journal", "index.log", "owner.json"}


def _hash(text: str) -> str:
    from rag.corpus import text_hash  # noqa: PLC0415

    return text_hash(text)


DELETE = """
import sys
from pathlib import Path
from rag.index import delete_from_index
print("go", flush=True)
delete_from_index(Path(sys.argv[1]), studies=frozenset({"s005"}))
"""


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_removal_that_was_killed_is_finished_by_the_same_command(
    tmp_path: Path, before: Path, measured: dict[str, tuple[float, int]], share: float
) -> None:
    directory = tmp_path / "store"
    shutil.copytree(before, directory)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", DELETE, str(directory)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(share * measured["less"][0])
        process.send_signal(signal.SIGKILL)
    delete_from_index(directory, studies=frozenset({"s005"}))
    assert verify_index(directory).passed
    assert not [
        path for path in directory.rglob("*") if path.is_file() and b'"s005"' in path.read_bytes()
    ]
    assert build_index(OLD, FakeEncoder(), directory).withheld == 1
