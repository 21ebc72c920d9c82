"""Every disk error is one sentence, and the old index stays current."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus

from rag.errors import StoreError, StoreInUseError
from rag.index import (
    ReportIndex,
    build_index,
    delete_from_index,
    read_info,
    rebuild_index,
    verify_index,
)
from rag.index import version as index_version
from rag.index.info import write_lock

pytestmark = pytest.mark.slow


def test_a_folder_with_other_files_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and not an index"):
        build_index(small_corpus(3), FakeEncoder(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreError, match="there is a file where a folder should be"):
        build_index(small_corpus(3), FakeEncoder(), tmp_path / "thesis.txt")


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")],
)
def test_a_disk_error_is_one_sentence_and_the_old_index_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    first = build_index(small_corpus(10), FakeEncoder(), tmp_path)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(index_version, "write_ids", fail)
        with pytest.raises(StoreError, match=words):
            build_index(small_corpus(20), FakeEncoder(), tmp_path)
    assert len(list(tmp_path.glob("version-*"))) == 1
    assert read_info(tmp_path).index_id == first.index_id
    assert verify_index(tmp_path).passed


def test_no_version_is_deleted_while_the_current_one_is_unknown(tmp_path: Path) -> None:
    build_index(small_corpus(10), FakeEncoder(), tmp_path)
    index_file = tmp_path / "index.json"

    def fail(stage: str, *_: int) -> None:
        if stage == "index":
            index_file.rename(tmp_path / "aside")
            index_file.symlink_to(index_file.name)  # a loop: it exists but cannot be read
            raise StoreError("Chroma has failed")

    with pytest.raises(StoreError, match="Chroma has failed"):
        build_index(small_corpus(20), FakeEncoder(), tmp_path, progress=fail)
    with pytest.raises(StoreError, match="cannot be read"):  # so it may be intact
        build_index(small_corpus(20), FakeEncoder(), tmp_path, replace=True)
    (tmp_path / "aside").rename(index_file)
    assert verify_index(tmp_path).passed
    build_index(small_corpus(10), FakeEncoder(), tmp_path)  # deletes what the failed one left
    assert len(list(tmp_path.glob("version-*"))) == 1


def test_too_little_disk_space_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(StoreError, match=r"needs about 2 MB in .*, 0 MB are free"):
        build_index(small_corpus(300), FakeEncoder(), tmp_path)


def test_a_disk_that_fills_up_is_named_whatever_chroma_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("Chroma failed (Error purging logs): `cxr-rag index rebuild`")

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 3_000_000))
    monkeypatch.setattr(index_version, "_fill", fail)
    with pytest.raises(StoreError, match="the disk is full"):
        build_index(small_corpus(20), FakeEncoder(), tmp_path)


LIMITED = """
import resource, sys
from pathlib import Path
from support.fake_encoder import FakeEncoder
from support.small_corpus import small_corpus
from rag.errors import StoreError
from rag.index import build_index
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    build_index(small_corpus(900), FakeEncoder(dim=64), Path(sys.argv[1]))
except StoreError as error:
    print("StoreError:", error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as on Linux")
@pytest.mark.parametrize("limit", [20_000, 100_000, 300_000, 400_000, 700_000])
def test_a_write_refused_by_the_kernel_at_any_size(tmp_path: Path, limit: int) -> None:
    build_index(small_corpus(10), FakeEncoder(dim=64), tmp_path)
    first = read_info(tmp_path).index_id
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.stdout.startswith("StoreError: "), run.stderr[-2000:]
    assert "Traceback" not in run.stderr
    assert read_info(tmp_path).index_id == first
    assert verify_index(tmp_path).passed


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to become a user without write permission"
)
def test_permission_denied(tmp_path: Path) -> None:
    build_index(small_corpus(10), FakeEncoder(), tmp_path)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and "pytest" in str(folder):
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        assert read_info(tmp_path).count == 10
        for attempt in (
            lambda: build_index(small_corpus(20), FakeEncoder(), tmp_path),
            lambda: build_index(small_corpus(20), FakeEncoder(), tmp_path / "new"),
            lambda: rebuild_index(tmp_path),
        ):
            with pytest.raises(StoreError, match="permission denied"):
                attempt()
    finally:
        os.seteuid(0)


def test_only_one_process_writes_while_others_read(tmp_path: Path) -> None:
    corpus, encoder = small_corpus(10), FakeEncoder()
    build_index(corpus, encoder, tmp_path)
    with ReportIndex(tmp_path) as index, write_lock(tmp_path):
        assert len(index.query(encoder.embed_texts(["Lungs are clear."])[0], 3)) == 3
        for attempt in (
            lambda: build_index(corpus, encoder, tmp_path),
            lambda: delete_from_index(tmp_path, studies=frozenset({"s001"})),
            lambda: rebuild_index(tmp_path),
        ):
            with pytest.raises(StoreInUseError, match="another process is writing"):
                attempt()
        assert verify_index(tmp_path).passed
    build_index(corpus, encoder, tmp_path)


def test_the_lock_ends_with_its_owner(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from rag.index.info import write_lock\n"
    code += "with write_lock(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(StoreInUseError), write_lock(tmp_path):
            pass
        other.kill()
    with write_lock(tmp_path):
        pass


def test_commands_on_a_missing_index_create_nothing(tmp_path: Path) -> None:
    for attempt in (read_info, verify_index, rebuild_index, delete_from_index):
        with pytest.raises(StoreError, match="make one with `cxr-rag index`"):
            attempt(tmp_path)
    assert list(tmp_path.iterdir()) == []
