"""Collections on a Chroma server (`chroma run`) instead of in the folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.errors import StoreError
from rag.index import (
    ReportIndex,
    build_index,
    delete_from_index,
    read_info,
    rebuild_index,
    verify_index,
)
from rag.index.client import ChromaLocation, connect

pytestmark = pytest.mark.slow
Server = tuple[str, "subprocess.Popen[bytes]"]
CORPUS = small_corpus(60)
QUERIES = FakeEncoder().embed_texts([record.text for record in CORPUS.records[:10]])


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A Chroma server with a folder of its own."""
    program = Path(sys.executable).with_name("chroma")
    command = [str(program) if program.exists() else shutil.which("chroma") or "", "run"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command += ["--path", str(tmp_path_factory.mktemp("server")), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RUST_LOG": "error", "ANONYMIZED_TELEMETRY": "False"},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("said", "then"), [("*", "*"), ("pacs", "pacs,127.0.0.1")])
def test_no_proxy_settings_are_extended_once(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, said: str, then: str
) -> None:
    monkeypatch.setenv("no_proxy", said)
    for _ in range(2):
        with connect(ChromaLocation(tmp_path, server[0], "v1", "a test")):
            assert os.environ["no_proxy"] == then


def test_a_server_answers_as_the_folder_does_and_old_collections_are_deleted(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, process = server
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):  # a hospital's proxy must not matter
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    here, there, other = (tmp_path / name for name in ("here", "there", "other"))
    build_index(CORPUS, FakeEncoder(), here)
    build_index(CORPUS, FakeEncoder(), there, url=url)
    build_index(small_corpus(5), FakeEncoder(), other, url=url)  # another index on the server
    assert not list(there.glob("version-*/chroma"))
    with ReportIndex(here) as folder, ReportIndex(there, url=url) as served:
        for query in QUERIES:
            assert served.query(query, 5) == folder.query(query, 5)
        assert served.get("r007") == CORPUS.records[7]
    assert verify_index(there, url=url).passed
    assert rebuild_index(there, url=url).index_id == read_info(there).index_id
    assert delete_from_index(there, url=url, studies=frozenset({"s003"})).removed == 1
    assert build_index(CORPUS, FakeEncoder(), there, url=url).withheld == 1
    assert verify_index(there, url=url).passed
    assert verify_index(other, url=url).passed
    import chromadb  # noqa: PLC0415

    with monkeypatch.context() as patch:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            patch.delenv(name)
        client = chromadb.HttpClient("127.0.0.1", int(url.rpartition(":")[2]))
    versions = {read_info(there).version, read_info(other).version}
    names = {f"{kind}-{version}" for kind in ("reports", "images") for version in versions}
    assert {collection.name for collection in client.list_collections()} == names
    assert os.environ["HTTP_PROXY"] == "http://127.0.0.1:9"

    with ReportIndex(there, url=url) as served:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(StoreError, match="start the Chroma server that `chroma_url` names"):
            served.query(QUERIES[0], 5)
    with pytest.raises(StoreError, match="start the Chroma server that `chroma_url` names"):
        ReportIndex(there, url=url)
