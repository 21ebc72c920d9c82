"""`cxr-rag batch --engine ray` as users start it: real encoder, real store, HTTP, two nodes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fake_choosing_llm
from support.small_corpus import small_corpus
from test_rag_batch_runs import lines_so_far

from demo.phantom import write_phantom_dicom
from encoders.eclip.encoder import load_encoder
from rag.index import build_index

pytest.importorskip("ray", reason='Ray is not installed: pip install "cxr-rag[ray]"')

STUDIES = 24
pytestmark = pytest.mark.slow

Cluster = tuple[str, int]
"""Address of a cluster, and the process that its nodes are children of."""

NODES = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 80 << 20}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    build_index(small_corpus(), load_encoder(), folder / "index")
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for seed in range(STUDIES):
        write_phantom_dicom(folder / f"{seed:02d}.dcm", seed=seed, size=256)
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM and no more")
    return folder


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    # not in pytest's own process: what is connected there would be used instead of the address
    nodes = subprocess.Popen(
        [sys.executable, "-c", NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        text=True,
    )
    assert nodes.stdin
    assert nodes.stdout
    yield nodes.stdout.readline().strip(), nodes.pid
    nodes.stdin.close()
    nodes.stdout.close()
    assert nodes.wait(60) == 0


def batch(images: Path, out: Path, *, home: Path, url: str, more: tuple[str, ...] = ()) -> int:
    config = home / "config.toml"
    config.write_text(
        f'home = "{home}"\n[llm]\nurl = "{url}"\nmodel = "{fake_choosing_llm.MODEL}"\n'
        "[llm.server]\nenabled = false\n"
        "[abstention]\nsimilarity = -1.0\n"
    )
    command = [sys.executable, "-m", "rag.cli.main", "batch", str(images), str(out)]
    ran = subprocess.run(
        [*command, "--config", str(config), *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode in {0, 3}, ran.stderr
    return ran.returncode


def test_an_address_of_two_nodes_and_a_killed_worker_equal_the_local_engine(
    tmp_path: Path, home: Path, images: Path, two_nodes: Cluster
) -> None:
    address, nodes = two_nodes
    with fake_choosing_llm.serve() as llm:
        assert batch(images, tmp_path / "local", home=home, url=llm.url) == 3
        llm.delay_s = 0.3  # so that a worker can be killed in the middle
        killed: list[int] = []

        def kill_one() -> None:
            # as soon as there is one: on a quiet machine they are done before many are drafted
            while not (mapping := ray_workers(nodes)):
                time.sleep(0.02)
            os.kill(mapping[0], signal.SIGKILL)
            killed.append(len(lines_so_far(tmp_path / "ray")))

        threading.Thread(target=kill_one, daemon=True).start()
        more = ("--engine", "ray", "--ray-address", address)
        assert batch(images, tmp_path / "ray", home=home, url=llm.url, more=more) == 3
    assert killed, "nothing was killed"
    assert killed[0] < STUDIES, "the kill came too late"
    statuses = [line["status"] for line in lines_so_far(tmp_path / "ray")]
    assert sorted(set(statuses)) == ["failed", "ok"], "an image is broken, and no other fails"
    assert statuses.count("ok") == STUDIES
    assert without_times(tmp_path / "ray") == without_times(tmp_path / "local")


def test_without_an_address_ray_starts_on_this_machine_and_equals_the_local_engine(
    tmp_path: Path, home: Path, images: Path
) -> None:
    few = tmp_path / "images"
    few.mkdir()
    for name in ("00.dcm", "01.dcm", "02.dcm", "broken.dcm"):
        shutil.copy(images / name, few)
    with fake_choosing_llm.serve() as llm:
        for out, more in (("local", ()), ("ray", ("--engine", "ray"))):
            assert batch(few, tmp_path / out, home=home, url=llm.url, more=more) == 3
    assert len(without_times(tmp_path / "ray")) == 4
    assert without_times(tmp_path / "ray") == without_times(tmp_path / "local")


def without_times(out: Path) -> list[str]:
    """The file's lines byte for byte, apart from order and timings."""
    return sorted(json.dumps({**line, "seconds": {}}) for line in lines_so_far(out))


def ray_workers(nodes: int) -> list[int]:
    """Ray's workers that map studies, among a process's descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has just ended
            parents[int(entry.name)] = (parent, title)

    def below(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid][0]
            if pid == nodes:
                return True
        return False

    return [pid for pid, (_, title) in parents.items() if b"MapWorker" in title and below(pid)]
