"""Where the tests find data that cannot be redistributed, and the demo that the slow ones share."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from support.orthanc import Orthanc, running_orthanc
from support.ports import free_port
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from support.small_room import Room

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("untimed")

REPOSITORY = Path(__file__).parent.parent
START_SECONDS = 900  # indexing 3 927 reports on two busy cores, then vLLM


def pytest_configure() -> None:
    """Let Ctrl-C mean something again: a suite started in the background has it ignored.

    So would have the programs that tests start in order to interrupt them.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


class ByPart(LoadScopeScheduling):
    """With several workers a file stays with one; so do the tests of the demo, and those of Ray.

    Who asks for the demo shares one, and two Ray clusters do not fit beside each other. xdist's own
    ``--dist loadgroup`` does nothing with pytest 9.2 (pytest-xdist 3.8.0).
    """

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.partition("::")[0]).stem
        shared = ("test_e2e", "test_rag_batch_ray")
        return next((part for part in shared if name.startswith(part)), name)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPart:
    """Called where there are workers."""
    return ByPart(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Images and reports that cannot be redistributed; skipped where they are absent."""
    folder = Path(os.environ.get("CXR_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "dicom" / "manifest.jsonl").is_file():
        pytest.skip(f"CXR_DATA: no images at {folder}")
    return folder


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Room]":
    """A whole reading room with a fake encoder and model, one a test module."""
    from support.small_room import small_room  # noqa: PLC0415 - gradio and chromadb, for who asks

    with small_room(tmp_path_factory.mktemp("room")) as room:
        yield room


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn phantom as a DICOM file; many modules have an image of their own instead."""
    from demo.phantom import write_phantom_dicom  # noqa: PLC0415 - for who asks

    path = tmp_path_factory.mktemp("image") / "phantom.dcm"
    write_phantom_dicom(path, seed=3)
    return path


@dataclass(frozen=True, slots=True)
class Demo:
    """A running `cxr-rag demo` with real parts."""

    url: str
    environment: dict[str, str]
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A real archive, for tests that are marked with `needs_orthanc`."""
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo as a newcomer starts it: real store, real encoder, vLLM with a real small model."""
    home = tmp_path_factory.mktemp("home")
    page_port, llm_port = free_port(), free_port()
    environment = {
        **os.environ,
        "CXR_RAG_HOME": str(home),
        "CXR_RAG_LLM__URL": f"http://127.0.0.1:{llm_port}/v1",
        "CXR_RAG_PAGE__PORT": str(page_port),
    }
    log = home / "demo.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "rag.cli.main", "demo"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        _wait_for(log, "is open at", process)
        yield Demo(f"http://127.0.0.1:{page_port}", environment, process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()


def _wait_for(log: Path, words: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while words not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(
                f"the demo did not start (code {process.returncode}): {log.read_text()[-2000:]}"
            )
        time.sleep(0.5)
