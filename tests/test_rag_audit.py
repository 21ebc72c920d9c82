"""The audit record: changed, removed, moved and added lines are detected."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from rag.atomic_io import write_text_atomic
from rag.cli.audit import app
from rag.errors import UsageError
from rag.review import audit
from rag.review.audit import GENESIS_HASH, AuditError, AuditLog

LINES = 6


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(LINES):
        log.append("edit", draft=f"d{number % 2}", data={"text": f"word {number}", "é": [1.5]})
    return log


def test_an_unchanged_record_verifies(log: AuditLog) -> None:
    count, last = log.verify()
    assert count == LINES
    entries = list(log.entries())
    assert entries[0].before == GENESIS_HASH
    assert entries[-1].sha256 == last
    assert [entry.number for entry in entries] == list(range(LINES))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_detected(log: AuditLog, data: st.DataObject) -> None:
    original = log.path.read_bytes()
    index = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda v: v != original[index]))
    log.path.write_bytes(original[:index] + bytes([value]) + original[index + 1 :])
    try:
        with pytest.raises(AuditError):
            log.verify()
    finally:
        log.path.write_bytes(original)


@pytest.mark.parametrize("gone", range(LINES))
def test_a_removed_line_is_detected(log: AuditLog, gone: int) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:gone] + lines[gone + 1 :]))
    with pytest.raises(AuditError):
        log.verify()


def test_moved_and_repeated_lines_are_detected(log: AuditLog) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    for changed in ([lines[1], lines[0], *lines[2:]], [*lines, lines[-1]], [lines[0], *lines]):
        log.path.write_bytes(b"".join(changed))
        with pytest.raises(AuditError):
            log.verify()


def test_a_line_cut_off_by_a_crash_is_reported_and_overwritten(log: AuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(b'{"number": 6, "at"')
    with pytest.raises(AuditError, match="cut short"):
        log.verify()
    log.append("sign", draft="d0", data={"name": "Roe"})
    assert log.verify()[0] == LINES + 1


def test_a_line_truncated_after_it_was_written_is_not_overwritten(log: AuditLog) -> None:
    whole = log.path.read_bytes()
    first = whole.index(b"\n")
    for left in (whole[:-1], whole[:-20], whole[:first]):
        log.path.write_bytes(left)
        with pytest.raises(AuditError, match="was changed"):
            log.append("sign", draft="d0", data={"name": "Roe"})
        assert log.path.read_bytes() == left


def test_nothing_is_appended_after_a_changed_line(log: AuditLog) -> None:
    with log.path.open("ab") as file:
        file.write(b"what is this?\n")
    with pytest.raises(AuditError, match="a new one will be started"):
        log.append("sign", draft="d0", data={"name": "Roe"})


def test_concurrent_writers_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    def write(name: str) -> None:
        for number in range(15):
            AuditLog(path).append("edit", draft=name, data={"number": number})

    threads = [threading.Thread(target=write, args=(f"d{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert AuditLog(path).verify()[0] == 60
    assert [e.data["number"] for e in AuditLog(path).entries_of("d2")] == list(range(15))


def test_a_record_verifies_while_it_is_being_written(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor() as pool:
        verified: list[Future[tuple[int, str]]] = []

        def swap_late(path: Path, text: str) -> None:
            verified.append(pool.submit(log.verify))
            wait(verified, timeout=0.2)
            write_text_atomic(path, text)

        monkeypatch.setattr("rag.review.audit.write_text_atomic", swap_late)
        log.append("edit", draft="d", data={})
        assert verified[0].result()[0] == LINES + 1


def test_writers_do_not_wait_for_a_record_to_be_verified(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify_entry = audit._verify_entry

    def append_meanwhile(*args: Any, **options: Any) -> str:
        with FileLock(log.path.with_suffix(".lock"), timeout=1):
            pass
        monkeypatch.setattr(audit, "_verify_entry", verify_entry)
        log.append("edit", draft="d", data={})
        return verify_entry(*args, **options)

    monkeypatch.setattr(audit, "_verify_entry", append_meanwhile)
    assert log.verify()[0] == LINES
    assert log.verify()[0] == LINES + 1


def test_a_damaged_head_file_is_reported(log: AuditLog) -> None:
    log.path.with_suffix(".head").write_bytes(b"\xff\xfe")
    with pytest.raises(AuditError, match="missing or damaged"):
        log.verify()


def test_verifying_a_missing_record_creates_nothing(tmp_path: Path) -> None:
    assert AuditLog(tmp_path / "audit" / "audit.jsonl").verify()[0] == 0
    run = CliRunner().invoke(app, ["verify", "--file", str(tmp_path / "typo.jsonl")])
    assert isinstance(run.exception, UsageError)
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("a file where the folder should be")
    with pytest.raises(AuditError, match="cannot be written"):
        AuditLog(tmp_path / "audit" / "audit.jsonl").append("draft", draft="d", data={})


def test_an_unknown_and_an_ambiguous_draft_id_are_distinguished(log: AuditLog) -> None:
    for beginning, words in (("d", "several"), ("x", "no draft"), ("", "several")):
        with pytest.raises(AuditError, match=words):
            log.entries_of(beginning)
    assert len(log.entries_of("d1")) == LINES // 2


def test_the_command_prints_the_last_hash_and_compares_it_later(log: AuditLog) -> None:
    run = CliRunner().invoke(app, ["verify", "--file", str(log.path)])
    assert run.exit_code == 0
    last = run.stdout.split()[-1]
    log.append("edit", draft="d0", data={})
    again = ["verify", "--file", str(log.path), "--last"]
    assert CliRunner().invoke(app, [*again, last]).exit_code == 0
    other = CliRunner().invoke(app, [*again, "0" * 64])
    assert isinstance(other.exception, AuditError)


def test_only_its_owner_may_read_it(log: AuditLog) -> None:
    assert log.path.stat().st_mode & 0o077 == 0
