"""The Ray engine equals the local one, on two nodes and when a worker is killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from support import fake_choosing_llm, small_batch
from support.fake_encoder import FakeEncoder
from support.small_batch import draw_images
from support.small_corpus import small_corpus
from test_rag_batch_runs import without_times

from rag.batch.ray import prepare_on_ray, ray_prepare
from rag.errors import UsageError
from rag.index import build_index
from rag.pipeline import ReportPipeline
from rag.settings import Settings

ray = pytest.importorskip("ray", reason='Ray is not installed: pip install "cxr-rag[ray]"')

COUNT = 40
pytestmark = [
    pytest.mark.slow,
    # Ray's own: it leaves sockets and log files to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@contextmanager
def slow_pipeline(store: Path, url: str, folder: Path) -> Iterator[ReportPipeline]:
    """A small pipeline whose worker writes down its process id, and takes its time."""
    (folder / str(os.getpid())).touch()
    with small_batch.small_pipeline(store, url) as pipeline:
        embed = pipeline.encoder.embed_images

        def slowly(images: object) -> object:
            time.sleep(0.1)
            return embed(images)

        pipeline.encoder.embed_images = slowly
        yield pipeline


@contextmanager
def two_nodes() -> Iterator[None]:
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    where_tests_are = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}
    ray.init(address=cluster.address, log_to_driver=False, runtime_env=where_tests_are)
    yield
    ray.shutdown()
    cluster.shutdown()


def test_two_nodes_and_a_killed_worker_equal_the_local_engine(tmp_path: Path) -> None:
    """In a process of its own: Ray's threads can take theirs with them (seen once, its 2.x)."""
    driver = get_context("spawn").Process(target=compare_engines, args=(tmp_path,))
    driver.start()
    driver.join()
    assert driver.exitcode == 0


def compare_engines(tmp_path: Path) -> None:
    store, pids = tmp_path / "store", tmp_path / "pids"
    pids.mkdir()
    images = draw_images(tmp_path / "in", COUNT)
    build_index(small_corpus(), FakeEncoder(), store)
    with two_nodes(), fake_choosing_llm.serve() as llm:
        assert sum(node["Alive"] for node in ray.nodes()) == 2
        small_batch.run(images, tmp_path / "local", store=store, url=llm.url)
        killed: list[int] = []
        lines = tmp_path / "ray" / "predictions.jsonl"

        def kill_one() -> None:
            while not lines.exists() or lines.read_bytes().count(b"\n") < COUNT // 5:
                time.sleep(0.01)
            victim = int(next(iter(pids.iterdir())).name)
            os.kill(victim, signal.SIGKILL)
            killed.append(lines.read_bytes().count(b"\n"))

        killer = threading.Thread(target=kill_one, daemon=True)
        killer.start()
        prepare = prepare_on_ray(partial(slow_pipeline, store, llm.url, pids), workers=2)
        summary = small_batch.run(
            images, tmp_path / "ray", store=store, url=llm.url, prepare=prepare
        )
        killer.join(5)
    assert summary.complete
    assert killed, "nothing was killed"
    assert killed[0] < COUNT, "the kill came too late"
    assert len(list(pids.iterdir())) >= 3, "two workers, and one that took a dead one's place"
    assert without_times(tmp_path / "ray") == without_times(tmp_path / "local")


def test_a_missing_cluster_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def refuse(**_: object) -> None:
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(UsageError, match="nobody answers"),
        ray_prepare(Settings(), address="127.0.0.1:9"),
    ):
        pass
