"""One process serves the store, others are its clients, and nothing outlives its owner."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from small_corpus import small_corpus

from rag.errors import ServerError, StoreError, StoreInUseError, StoreMismatchError
from rag.index import build_index
from rag.index.check import verify_index
from rag.store import SearchMode, open_store
from rag.store.lock import read_owner
from rag.store.server import serve_store

CORPUS = small_corpus(200)
QUERIES = FakeEncoder().embed_texts([record.text for record in CORPUS.records[:20]])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("built") / "store"
    build_index(CORPUS, FakeEncoder(), directory)
    return directory


@pytest.fixture
def directory(built: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(built, tmp_path / "store")
    yield tmp_path / "store"
    owner = read_owner(tmp_path / "store")
    if owner is not None and owner.server_pid and _is_chroma(owner.server_pid):
        os.kill(owner.server_pid, signal.SIGKILL)


def _is_chroma(pid: int) -> bool:
    try:
        return b"chroma" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


OTHER_PROCESS = """
import json, sys
from pathlib import Path
import numpy as np
from fake_encoder import FakeEncoder
from rag.store import open_store
with open_store(Path(sys.argv[1]), encoder=FakeEncoder()) as store:
    (hits,) = store.query(np.asarray(json.loads(sys.argv[2]), np.float32)[np.newaxis], 5)
    print(json.dumps([store.mode, [[hit.record.report_id, hit.similarity] for hit in hits]]))
"""


@pytest.mark.slow
def test_a_served_store_answers_here_and_in_another_process(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(directory, encoder=FakeEncoder()) as embedded:
        expected = embedded.query(QUERIES, 5)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):  # a hospital's proxy must not matter
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve_store(directory) as port:
        with open_store(directory, encoder=FakeEncoder()) as client:
            assert client.mode == f"hnsw (server on port {port})"
            assert client.query(QUERIES, 5) == expected
            assert client.self_test is not None
            assert client.self_test.passed
        other = subprocess.run(
            [sys.executable, "-c", OTHER_PROCESS, str(directory), json.dumps(QUERIES[0].tolist())],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
        )
        mode, hits = json.loads(other.stdout)
        assert mode == client.mode
        assert hits == [[hit.record.report_id, hit.similarity] for hit in expected[0]]
        assert verify_index(directory).passed
        with pytest.raises(StoreMismatchError):
            open_store(directory, encoder=FakeEncoder("fake@2"))
        for attempt in (
            lambda: build_index(CORPUS, FakeEncoder(), directory),
            lambda: serve_store(directory).__enter__(),
        ):
            with pytest.raises(StoreInUseError, match=rf"process {os.getpid()}"):
                attempt()
        owner = read_owner(directory)
        assert owner is not None
        assert _is_chroma(owner.server_pid)
    assert not _is_chroma(owner.server_pid)
    assert os.environ["HTTP_PROXY"] == "http://127.0.0.1:9"
    with open_store(directory) as embedded:
        assert embedded.mode == "hnsw (embedded)"


@pytest.mark.slow
def test_the_server_listens_on_the_loopback_address_only(directory: Path) -> None:
    with serve_store(directory) as port:
        listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
        listening += Path("/proc/net/tcp6").read_text().splitlines()[1:]
        ours = [line.split()[1] for line in listening if line.split()[1].endswith(f":{port:04X}")]
        assert set(ours) == {f"0100007F:{port:04X}"}


@pytest.mark.slow
def test_a_server_that_dies_is_one_sentence(directory: Path) -> None:
    with serve_store(directory), open_store(directory) as client:
        owner = read_owner(directory)
        assert owner is not None
        os.kill(owner.server_pid, signal.SIGKILL)
        time.sleep(0.3)
        with pytest.raises(StoreError, match="the store's server has stopped"):
            client.query(QUERIES, 5)
        with pytest.raises(StoreInUseError):
            open_store(directory)
        with open_store(directory, search=SearchMode.EXACT) as reader:
            assert len(reader.query(QUERIES, 5)) == len(QUERIES)
    open_store(directory).close()


SERVE = """
import sys, time
from pathlib import Path
from rag.store.server import serve_store
with serve_store(Path(sys.argv[1])):
    print("serving", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties children to us on Linux only")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_the_server_ends_with_its_owner(directory: Path, ending: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as owner_process:
        assert owner_process.stdout
        assert owner_process.stdout.readline() == b"serving\n"
        owner = read_owner(directory)
        assert owner is not None
        owner_process.send_signal(ending)
    deadline = time.monotonic() + 10
    while _is_chroma(owner.server_pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_chroma(owner.server_pid)
    with open_store(directory) as store:
        assert store.mode == "hnsw (embedded)"
    assert verify_index(directory).passed


@pytest.mark.slow
def test_a_server_that_outlived_its_owner_is_named_and_not_disturbed(directory: Path) -> None:
    with serve_store(directory) as port:
        owner = read_owner(directory)
        assert owner is not None
        shutil.copytree(directory, directory.with_name("copy"))  # as if the owner had been killed
        with pytest.raises(
            StoreInUseError, match=rf"server \(process {owner.server_pid}\) that out"
        ):
            open_store(directory.with_name("copy"))
        assert port


@pytest.mark.slow
def test_a_port_that_serves_another_store_is_not_taken_for_ours(
    directory: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    build_index(small_corpus(20), FakeEncoder(), other)
    with serve_store(other) as port, open_store(directory) as ours:
        assert ours._lock is not None
        ours._lock.announce(port=port, server_pid=os.getpid())
        with pytest.raises(StoreInUseError):
            open_store(directory)


def test_a_server_that_does_not_start_is_one_sentence(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "chroma"
    program.write_text("#!/bin/sh\necho it broke\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("rag.store.server._program", lambda: str(program))
    with pytest.raises(ServerError, match="did not start: it broke"), serve_store(directory):
        pass
    program.write_text("#!/bin/sh\nsleep 60\n")
    with (
        pytest.raises(ServerError, match="does not answer"),
        serve_store(directory, start_seconds=0.3),
    ):
        pass
    open_store(directory).close()


def test_a_store_without_chroma_is_not_served(directory: Path) -> None:
    shutil.rmtree(next(directory.glob("edition-*")) / "chroma")
    with pytest.raises(StoreError, match="cxr-rag index rebuild"), serve_store(directory):
        pass


def test_the_owner_file_names_no_patient(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, command in [
        (["/x/bin/cxr-rag", "generate", "/data/DOE_JANE/image.dcm"], "cxr-rag generate"),
        (["/x/bin/cxr-rag", "/data/DOE_JANE/image.dcm"], "cxr-rag"),
        (["/x/bin/cxr-rag", "DOE"], "cxr-rag"),
    ]:
        monkeypatch.setattr(sys, "argv", arguments)
        with open_store(directory, self_test=False):
            owner = read_owner(directory)
            assert owner is not None
            assert (owner.pid, owner.command) == (os.getpid(), command)
            assert "DOE" not in (directory / "owner.json").read_text()
    assert read_owner(directory) is None
    assert np.isfinite(QUERIES).all()
