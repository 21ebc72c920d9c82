"""kill -9 while an index is being written, at fifty points: nothing lost, nothing duplicated.

Kill points are calls of ``progress``: reports read, batches embedded and written, and the moments
before and after the new version becomes current.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.corpus.records import make_corpus, text_hash
from rag.index import ReportIndex, build_index, delete_from_index, read_info, verify_index
from rag.index import embedding as index_embedding
from rag.index.embedding import EmbeddingCache
from rag.index.version import read_content

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="kill -9 and its consequences as on Linux"),
]

OLD = small_corpus(40)
GROWN = small_corpus(90)
SHRUNK = make_corpus(OLD.name, records=GROWN.records[10:], licence=OLD.licence,
                   attribution=OLD.attribution)  # fmt: skip
CORPORA = {"first": OLD, "grown": GROWN, "shrunk": SHRUNK}
BATCH = 8  # texts per batch, so that there is something to interrupt

WRITE = """
import os, signal, sys
from pathlib import Path
from support.fake_encoder import FakeEncoder
from test_rag_index_kill import BATCH, CORPORA
from rag.index import build_index, delete_from_index, embedding
embedding._TEXT_BATCH_SIZE = BATCH
kind, directory, kill_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
steps = 0
def progress(stage, done, total):
    global steps
    steps += stage != "read" or done == total
    if kill_at and steps == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
if kind == "delete":
    delete_from_index(directory, studies=frozenset({"s005"}), progress=progress)
else:
    build_index(CORPORA[kind], FakeEncoder(), directory, progress=progress)
print(steps)
"""


def write(directory: Path, kind: str, *, kill_at: int = 0) -> int:
    """Write in another process, killed at a step; returns the number of steps if not killed."""
    run = subprocess.run(
        [sys.executable, "-c", WRITE, kind, str(directory), str(kill_at)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == (-signal.SIGKILL if kill_at else 0), run.stderr
    return int(run.stdout or 0)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the old collection, to be copied."""
    directory = tmp_path_factory.mktemp("before") / "index"
    build_index(OLD, FakeEncoder(), directory)
    return directory


@pytest.fixture(scope="module")
def steps(before: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Number of steps of an uninterrupted run of each kind."""
    found = {}
    for kind in (*CORPORA, "delete"):
        directory = tmp_path_factory.mktemp("measured") / "index"
        if kind != "first":
            shutil.copytree(before, directory)
        found[kind] = write(directory, kind)
    return found


@pytest.mark.parametrize("trial", range(45))
def test_killed_at_any_step(
    tmp_path: Path,
    before: Path,
    steps: dict[str, int],
    trial: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, turn = ("grown", "shrunk", "first")[trial % 3], trial // 3
    directory = tmp_path / "index"
    if kind != "first":
        shutil.copytree(before, directory)
    write(directory, kind, kill_at=1 + turn * steps[kind] // 15)
    new = {record.report_id for record in CORPORA[kind].records}
    old = {record.report_id for record in OLD.records} if kind != "first" else None

    if (directory / "index.json").exists():  # the current version is complete: old or new
        with ReportIndex(directory) as index:
            ids = [record.report_id for record in read_content(directory, index.info, "").records]
        assert set(ids) in ([old, new] if old else [new])
        assert len(ids) == len(set(ids))
    else:
        assert old is None
    cache = EmbeddingCache(directory, FakeEncoder(), read_only=True)

    encoder = FakeEncoder()
    monkeypatch.setattr(index_embedding, "_TEXT_BATCH_SIZE", BATCH)
    report = build_index(CORPORA[kind], encoder, directory)  # the same command completes it
    assert not [text for text in encoder.embedded if text_hash(text) in cache]
    assert report.kept + report.added + report.changed == len(new)
    assert verify_index(directory).passed
    assert read_info(directory).count == len(new)
    names = {path.name for path in directory.iterdir()}
    assert len([name for name in names if name.startswith("version-")]) == 1
    assert len(names) == 4, names


@pytest.mark.parametrize("turn", range(5))
def test_a_killed_deletion_is_completed_by_the_same_command(
    tmp_path: Path, before: Path, steps: dict[str, int], turn: int
) -> None:
    directory = tmp_path / "index"
    shutil.copytree(before, directory)
    write(directory, "delete", kill_at=1 + turn * steps["delete"] // 5)
    delete_from_index(directory, studies=frozenset({"s005"}))
    assert verify_index(directory).passed
    assert not [
        path for path in directory.rglob("*") if path.is_file() and b's005"' in path.read_bytes()
    ]
    assert build_index(OLD, FakeEncoder(), directory).withheld == 1
