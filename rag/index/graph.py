"""Writes Chroma's files of an edition from its vectors and records, and proves them.

Chroma's graph library writes memory to the disk that it has never set: bits of whatever the
process held before (seen: a deleted report's words inside data_level0.bin). So wherever something
that must not be in the index may be in this process's memory, the files are written by a fresh
process that has read nothing but the edition itself: `python -m rag.index.graph FOLDER [BASE]`.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rag.errors import StoreError
from rag.processes import log_tail, start_child, stop_child
from rag.store.catalogue import Edition, read_edition
from rag.store.chroma import ChromaIndex, Progress, chroma_facts, collection_facts
from rag.store.disk import disk_errors
from rag.store.files import CHROMA
from rag.store.opening import check_facts

_PROBES = 16
_FULL = 4_000_000  # bytes; with less, SQLite fails in many ways
_ERROR = "error"


def write_graph(folder: Path, base: Path | None, *, progress: Progress) -> None:
    """Write the Chroma files of an edition in this process.

    Args:
        folder: an edition whose other files are complete.
        base: an edition of the same encoder of which everything is still wanted: its Chroma files
            are copied and added to, if they are sound.
        progress: told ("index", done, total).

    Raises:
        StoreError: the disk or Chroma failed, or what was written is not found again.
    """
    edition = read_edition(folder)
    manifest, catalogue = edition.manifest, edition.catalogue
    facts = collection_facts(manifest, store_id=manifest.store_id, fingerprint=manifest.fingerprint)
    have = _copied(base, folder) if base else []
    held = catalogue.texts.codes[[catalogue.row_of[name] for name in have]]
    rows = np.sort(np.delete(catalogue.texts.firsts, held)).tolist()
    if have:
        index = ChromaIndex.open(folder)
        index.describe(facts)
    else:
        index = ChromaIndex.create(folder, facts, total=len(rows))
    records = (catalogue.record(row) for row in rows)
    vectors = (edition.vectors[row] for row in rows)
    try:
        with index:
            index.add(records, vectors, total=len(rows), progress=progress)
        _prove(edition)
    except StoreError as error:
        if shutil.disk_usage(folder).free > _FULL:
            raise
        with disk_errors(folder.parent):  # Chroma's own words do not say so
            raise OSError(errno.ENOSPC, "") from error


def write_graph_apart(folder: Path, base: Path | None, *, progress: Progress) -> None:
    """`write_graph` in a process of its own.

    Raises:
        StoreError: as `write_graph`, or the process ended without a word.
    """
    command = [sys.executable, "-m", "rag.index.graph", str(folder), *([str(base)] if base else [])]
    log = folder.parent / "index.log"
    # the child finds this package however we found it
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with disk_errors(folder.parent):
        child = start_child(command, log=log, environment=environment)
    try:
        with log.open(encoding="utf-8", errors="replace") as output:
            unfinished, ended = "", False
            while not ended:
                ended = child.poll() is not None  # before reading, so that no last line is missed
                *lines, unfinished = (unfinished + output.read()).split("\n")
                for line in lines:
                    _hear(line, progress)
                if not ended:
                    time.sleep(0.05)
        if child.returncode:
            raise StoreError(f"writing Chroma's files failed: {log_tail(log)}")
    finally:
        stop_child(child)
        log.unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> int:
    """The child's side: progress and errors as JSON lines on standard output."""
    parent = os.getppid()

    def progress(*step: object) -> None:
        if os.getppid() != parent:  # where the kernel does not end us with our parent
            sys.exit(1)
        sys.stdout.write(json.dumps(step) + "\n")
        sys.stdout.flush()

    folder, *base = map(Path, arguments)
    try:
        write_graph(folder, base[0] if base else None, progress=progress)
    except StoreError as error:
        sys.stdout.write(json.dumps([_ERROR, str(error)]) + "\n")
        return 1
    return 0


def _hear(line: str, progress: Progress) -> None:
    """One line of the child; what is not ours (a library's warning) is passed over."""
    try:
        step = json.loads(line)
    except ValueError:
        return
    if isinstance(step, list) and step[:1] == [_ERROR]:
        raise StoreError(step[1])
    if isinstance(step, list) and len(step) == 3:
        progress(*step)


def _copied(base: Path, folder: Path) -> list[str]:
    """Copy the base's Chroma files, if they are sound; returns the ids they hold."""
    edition = read_edition(base)
    if not edition.manifest.count or edition.manifest.chroma != chroma_facts():
        return []
    with contextlib.suppress(StoreError):
        with disk_errors(folder.parent):
            shutil.copytree(base / CHROMA, folder / CHROMA)
        with ChromaIndex.open(folder) as index:
            check_facts(index, edition)
            ids = index.ids()
        if edition.catalogue.has_each_text_once(ids):
            return ids
    shutil.rmtree(folder / CHROMA, ignore_errors=True)
    return []


def _prove(edition: Edition) -> None:
    """Open what was written as a reader would, and look for a few reports where they must be."""
    count = len(edition.catalogue)
    rows = np.linspace(0, count - 1, min(count, _PROBES)).astype(np.intp)
    with ChromaIndex.open(edition.path) as index:
        check_facts(index, edition)
        answers = index.nearest(edition.vectors[rows], 1) if count else []
    found = [edition.catalogue.row_of[nearest] for nearest, *_ in answers]
    near = np.einsum("rd,rd->r", edition.vectors[rows], edition.vectors[found]) > 1 - 1e-3
    if near.sum() < 0.75 * len(rows):  # a graph may miss one; a wrong file misses nearly all
        raise StoreError("Chroma does not find what was written: run the same command again")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
