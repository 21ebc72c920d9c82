"""Child processes end with their parent, as a group."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rag.processes import log_tail, port_is_free, start_child, stop_child

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_stopping_ends_the_whole_process_group(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start_child([sys.executable, "-c", FAMILY], log=log, environment={})
    grandchild = int(_first_line(log))
    stop_child(process)
    assert process.returncode is not None
    assert _gone(grandchild)
    stop_child(process)  # idempotent


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties children to us on Linux only")
def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent_code = (
        "import sys, time; from pathlib import Path; from rag.processes import start_child\n"
        f"child = start_child(['sleep', '600'], log=Path({str(log)!r}), environment={{}})\n"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    assert _gone(child)


def test_port_is_free_and_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not port_is_free("127.0.0.1", taken.getsockname()[1])
    assert port_is_free("127.0.0.1", 0)


def test_log_tail_of_a_missing_and_a_binary_log(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none") == ""
    (tmp_path / "log").write_bytes(b"one\n\n\xff two \nthree\n")
    assert log_tail(tmp_path / "log").endswith("two | three")


def _first_line(log: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if log.exists() and "\n" in log.read_text():
            return log.read_text().splitlines()[0]
        time.sleep(0.05)
    raise AssertionError("the child said nothing")


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
