"""The store's parts on their own: exact search, self-test, journal, swap, lock, Chroma's traps."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import small_corpus

from rag.atomic_io import swap_text
from rag.errors import StoreError, StoreInUseError
from rag.index import build_index
from rag.store import open_store
from rag.store.catalogue import Groups, Rows
from rag.store.chroma import ChromaIndex, _plan
from rag.store.disk import disk_errors
from rag.store.exact import ExactSearch, cosines
from rag.store.files import current_edition, new_building, publish, sweep
from rag.store.journal import JOURNAL, EmbeddingJournal
from rag.store.lock import StoreLock, read_owner
from rag.store.self_test import image_like, measure_recall

NOTHING = np.empty(0, np.intp)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 45), st.sets(st.integers(0, 39)))
def test_exact_candidates_hold_the_nearest_and_all_ties(
    seed: int, rows: int, k: int, excluded: set[int]
) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(rows, 4)))[rng.integers(0, rows, rows)]  # many equal rows
    queries = unit(rng.normal(size=(3, 4)))
    out = np.array(sorted(row for row in excluded if row < rows), np.intp)
    together = ExactSearch(vectors).nearest(queries, k, excluded=out)
    for query, found in zip(queries, together, strict=True):
        allowed = np.setdiff1d(np.arange(rows), out)
        similarities = cosines(vectors, allowed, query)
        floor = np.sort(similarities)[::-1][: min(k, len(allowed))]
        nearest = allowed[similarities >= (floor[-1] if len(floor) else 2)]
        assert set(nearest) <= set(found) <= set(allowed)
        (alone,) = ExactSearch(vectors).nearest(query[np.newaxis], k, excluded=out)
        assert set(nearest) <= set(alone)


def test_a_similarity_does_not_depend_on_the_rows_beside_it() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(5000, 384)))
    vectors[4321] = vectors[17]
    query = unit(np.random.default_rng(1).normal(size=(1, 384)))[0]
    whole = cosines(vectors, np.arange(5000), query)
    assert whole[4321] == whole[17]
    for rows in (NOTHING, np.array([4321]), np.array([9, 17, 3, 4321])):
        assert (cosines(vectors, rows, query) == whole[rows]).all()


@given(st.lists(st.sampled_from("abcdef")))
def test_groups_know_their_rows(keys: list[str]) -> None:
    groups = Groups(keys, len(keys))
    assert set(groups.keys) == set(keys)
    for key in "abcdefg":
        assert groups.rows(key).tolist() == [row for row, name in enumerate(keys) if name == key]
    for row, key in enumerate(keys):
        assert groups.size(row) == keys.count(key)


@given(st.lists(st.sampled_from("abc"), max_size=20), st.sets(st.integers(0, 19)))
def test_groups_know_which_rows_repeat_another(keys: list[str], excluded: set[int]) -> None:
    out = np.array(sorted(row for row in excluded if row < len(keys)), np.intp)
    allowed = [row for row in range(len(keys)) if row not in excluded]
    first = [row for row in allowed if keys[row] not in {keys[r] for r in allowed if r < row}]
    left = set(range(len(keys))) - set(Groups(keys, len(keys)).repeats(out).tolist()) - excluded
    assert left == set(first)


class Forgetful:
    """A search that misses the best of each answer."""

    def __init__(self, vectors: np.ndarray) -> None:
        self._exact = ExactSearch(vectors)

    def nearest(self, queries: np.ndarray, k: int, *, excluded: Rows) -> list[Rows]:
        return [rows[1:] for rows in self._exact.nearest(queries, k, excluded=excluded)]


def test_the_self_test_counts_what_is_missed() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(300, 16)))
    assert measure_recall(ExactSearch(vectors), vectors).recall == 1.0
    missed = measure_recall(Forgetful(vectors), vectors, k=10)
    assert missed.recall == pytest.approx(0.9)
    assert not missed.passed
    assert str(missed) == "recall@10 0.900 on 32 perturbed text vectors"
    assert measure_recall(ExactSearch(vectors[:0]), vectors[:0]).recall == 1.0
    assert measure_recall(ExactSearch(vectors[:3]), vectors[:3]).k == 3


def test_stand_in_queries_are_as_far_away_as_images_and_always_the_same() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(500, 256)))
    queries = image_like(vectors, 64)
    nearest = (queries @ vectors.T).max(axis=1)
    assert nearest.min() > 0.2
    assert nearest.max() < 0.5
    assert (queries == image_like(vectors, 64)).all()


def test_a_graph_that_misses_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build_index(small_corpus(60), FakeEncoder(), tmp_path)
    whole = ChromaIndex.nearest

    def forgetful(index: ChromaIndex, queries: np.ndarray, k: int) -> list[list[str]]:
        return [ids[:1] + ids[4:] for ids in whole(index, queries, k)]

    monkeypatch.setattr(ChromaIndex, "nearest", forgetful)
    with open_store(tmp_path) as store:
        assert store.self_test is not None
        assert not store.self_test.passed
    assert "misses neighbours" in caplog.text


def journal(directory: Path, encoder: FakeEncoder | None = None) -> EmbeddingJournal:
    return EmbeddingJournal(directory, encoder or FakeEncoder(dim=4))


KEYS = [f"{number:032x}" for number in range(5)]
ROWS = np.arange(20, dtype=np.float32).reshape(5, 4)


@pytest.mark.parametrize("cut", range(0, 210, 7))
def test_a_torn_journal_gives_back_what_is_whole_and_goes_on(tmp_path: Path, cut: int) -> None:
    journal(tmp_path).append(KEYS[:4], ROWS[:4])
    path = tmp_path / JOURNAL
    data = path.read_bytes()
    path.write_bytes(data[:cut])
    found = journal(tmp_path).read()
    assert all((found[key] == ROWS[KEYS.index(key)]).all() for key in found)
    journal(tmp_path).append(KEYS[4:], ROWS[4:])
    again = journal(tmp_path).read()
    assert set(again) == {*found, KEYS[4]}
    assert (again[KEYS[4]] == ROWS[4]).all()


@pytest.mark.parametrize("place", range(0, 160, 5))
def test_a_flipped_bit_in_a_journal_is_never_read_as_a_vector(tmp_path: Path, place: int) -> None:
    journal(tmp_path).append(KEYS, ROWS)
    path = tmp_path / JOURNAL
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    for key, vector in journal(tmp_path).read().items():
        assert (vector == ROWS[KEYS.index(key)]).all()


def test_another_encoders_journal_is_thrown_away(tmp_path: Path) -> None:
    journal(tmp_path).append(KEYS, ROWS)
    assert journal(tmp_path, FakeEncoder("fake@2", dim=4)).read() == {}
    assert journal(tmp_path).read() == {}


def test_publishing_swaps_and_sweeps(tmp_path: Path) -> None:
    (new_building(tmp_path) / "file").write_text("one")
    one = publish(tmp_path)
    assert current_edition(tmp_path) == one
    (new_building(tmp_path) / "file").write_text("two")
    assert current_edition(tmp_path) == one  # until it is published
    two = publish(tmp_path)
    assert (two / "file").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", two.name]
    (tmp_path / "building").mkdir()
    (tmp_path / "edition-000001").mkdir()
    (tmp_path / "my-notes").mkdir()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", two.name, "my-notes"]


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    swap_text(path, "one")
    swap_text(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_disk_errors_name_the_folder(tmp_path: Path, code: int) -> None:
    said = pytest.raises(StoreError, match=f"cannot write the store in {tmp_path}: ")
    with said, disk_errors(tmp_path):
        raise OSError(code, os.strerror(code))


def test_the_lock_is_exclusive_and_ends_with_its_owner(tmp_path: Path) -> None:
    with StoreLock.take(tmp_path) as lock:
        with pytest.raises(StoreInUseError, match=f"process {os.getpid()}"):
            StoreLock.take(tmp_path)
        lock.release()
        lock.release()  # twice does no harm
    StoreLock.take(tmp_path).release()
    code = "import sys, time; from pathlib import Path; from rag.store.lock import StoreLock\n"
    code += "StoreLock.take(Path(sys.argv[1])); print('mine', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(StoreInUseError, match=f"process {other.pid}"):
            StoreLock.take(tmp_path)
        other.kill()
    assert read_owner(tmp_path) is not None  # it could not clean up
    StoreLock.take(tmp_path).release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "color": "red"}'])
def test_an_unreadable_owner_is_another_process(tmp_path: Path, content: str) -> None:
    with StoreLock.take(tmp_path):
        (tmp_path / "owner.json").write_text(content)
        with pytest.raises(StoreInUseError, match="in use by another process"):
            StoreLock.take(tmp_path)


@given(st.integers(0, 5000))
def test_batches_are_even_and_the_last_write_falls_on_the_last_report(total: int) -> None:
    sizes, threshold = _plan(total)
    assert sum(sizes) == total
    assert all(0 < size <= 400 for size in sizes)
    waiting = 0
    for size in sizes:
        waiting += size
        if waiting >= threshold:
            waiting = 0
    assert waiting <= max(4, total % 4 + 4)


def test_nothing_of_this_imports_chromadb_or_torch_until_it_is_needed() -> None:
    code = "import sys, rag.store, rag.index, rag.index.check, rag.store.server, rag.corpus.openi\n"
    code += "print(sorted({'chromadb', 'torch', 'httpx'} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("ending", ["kill", "exit"])
def test_a_writer_process_that_ends_without_a_word_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    encoder = FakeEncoder()
    first = build_index(small_corpus(10), encoder, tmp_path)
    code = "import os, signal; print('it broke', flush=True); "
    code += "os.kill(os.getpid(), signal.SIGKILL)" if ending == "kill" else "raise SystemExit(3)"
    program = tmp_path.with_name(f"{tmp_path.name}-python")
    program.write_text(f"#!{sys.executable}\n{code}\n")
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(program))
        with pytest.raises(StoreError, match="writing Chroma's files failed: it broke"):
            build_index(small_corpus(20), encoder, tmp_path)
    assert build_index(small_corpus(10), encoder, tmp_path).index_id == first.index_id
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"current", "edition-000001", "store.lock"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux")
@pytest.mark.skipif(
    not any((Path(folder) / "strace").exists() for folder in os.environ["PATH"].split(":")),
    reason="strace is not installed",
)
@pytest.mark.parametrize("what", ["embedded", "served"])
def test_no_outside_connection_is_ever_tried(tmp_path: Path, what: str) -> None:
    build_index(small_corpus(30), FakeEncoder(), tmp_path / "store")
    code = """
import contextlib, sys
from pathlib import Path
from fake_encoder import FakeEncoder
from rag.store import open_store
from rag.store.server import serve_store
directory = Path(sys.argv[1])
with contextlib.ExitStack() as stack:
    if sys.argv[2] == "served":
        stack.enter_context(serve_store(directory))
    store = stack.enter_context(open_store(directory))
    store.query(FakeEncoder().embed_texts(["Lungs are clear."]), 3)
"""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace)]
    subprocess.run(
        [*command, sys.executable, "-c", code, str(tmp_path / "store"), what],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    calls = [
        line for line in trace.read_text().splitlines() if "sin_addr" in line or "AF_INET6" in line
    ]
    assert [call for call in calls if '"127.0.0.1"' not in call] == []
    assert bool(calls) == (what == "served")
