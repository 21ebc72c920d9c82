"""Batches in child processes that start at once: slow imports are done before the fork.

`Forks` runs this file in its own process, which forks a child for each batch, so that a kill
some tenths of a second later hits the batch and not its imports.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SMALL_DISK, OTHER_FAILURE, KILLED = 33, 34, -signal.SIGKILL


class Forks:
    """The process that forks; a context manager."""

    def __enter__(self) -> "Forks":
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            text=True,
        )
        assert self._answer() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(self, kill_when: Callable[[], bool] = lambda: False, **batch: Any) -> int:
        """One batch to its end, or to its kill; the exit code, `KILLED` if it was killed."""
        pid = self._ask({key: str(v) if isinstance(v, Path) else v for key, v in batch.items()})
        deadline = time.monotonic() + 60
        while (code := self._ask("poll")) is None:
            if kill_when() or time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                return int(self._ask("wait"))
            time.sleep(0.004)
        return int(code)

    def _ask(self, command: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def serve() -> None:
    """Fork, poll and wait as commanded on stdin."""
    import chromadb  # noqa: F401, PLC0415
    import langchain_openai  # noqa: F401, PLC0415 - else the first question would import them
    import openai  # noqa: F401, PLC0415
    from support import small_batch  # noqa: F401, PLC0415

    from encoders.dicom import reader  # noqa: F401, PLC0415
    from encoders.images import raster  # noqa: F401, PLC0415
    from rag.report_nlp.statements import parse_sentence  # noqa: PLC0415

    parse_sentence("Clear.")  # builds the lexicon
    pid = 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        command = json.loads(line)
        if isinstance(command, dict):
            pid = os.fork()
            if not pid:
                os._exit(_run(**command))
            answer: int | None = pid
        else:
            found, status = os.waitpid(pid, os.WNOHANG if command == "poll" else 0)
            answer = os.waitstatus_to_exitcode(status) if found else None
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _run(
    *,
    images: str,
    output: str,
    store: str,
    url: str,
    retry_failed: bool = False,
    largest_file: int = 0,
    kill_at: tuple[int, int] | None = None,
) -> int:
    import resource  # noqa: PLC0415

    from support import small_batch  # noqa: PLC0415

    from rag.errors import OutputError  # noqa: PLC0415

    if kill_at:
        _kill_while_writing(*kill_at)
    if largest_file:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        small_batch.run(
            Path(images), Path(output), store=Path(store), url=url, retry_failed=retry_failed
        )
    except OutputError as error:
        return SMALL_DISK if "larger than is allowed" in str(error) else OTHER_FAILURE
    return 0


def _kill_while_writing(number: int, written: int) -> None:
    """SIGKILL while line `number` is written: before, after `written` bytes, or after all."""
    from rag.batch import output  # noqa: PLC0415

    count = 0
    original = output.BatchOutput.append

    def append(out: Any, prediction: Any) -> None:
        nonlocal count
        count += 1
        if count == number:
            line = output.prediction_line(prediction).encode()
            with out.predictions.open("ab", buffering=0) as file:
                file.write(line[:written])
            os.kill(os.getpid(), signal.SIGKILL)
        original(out, prediction)

    output.BatchOutput.append = append


if __name__ == "__main__":
    serve()
