"""A batch loses, duplicates and cuts no study, whatever happens to it."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from support import batch_child, fake_choosing_llm, small_batch
from support.batch_child import KILLED, Forks
from support.fake_choosing_llm import ChoosingLlm
from support.fake_encoder import FakeEncoder
from support.small_batch import draw_image, draw_images
from support.small_corpus import small_corpus

from rag.batch.output import open_output
from rag.batch.workers import Stop
from rag.errors import BatchError, OutputError, UsageError
from rag.index import build_index

pytestmark = pytest.mark.slow

COUNT = 30


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    build_index(small_corpus(), FakeEncoder(), directory)
    return directory


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_images(tmp_path_factory.mktemp("images"), COUNT)


@pytest.fixture
def llm() -> Iterator[ChoosingLlm]:
    with fake_choosing_llm.serve() as server:
        yield server


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]


def lines_so_far(output: Path) -> list[dict[str, Any]]:
    """Whole lines; the last one may be torn."""
    path = output / "predictions.jsonl"
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def without_times(output: Path) -> list[dict[str, Any]]:
    """The file's content apart from order and timings."""
    return sorted(
        ({**line, "seconds": None} for line in lines(output)), key=lambda line: line["study_id"]
    )


def test_every_study_has_one_line(
    tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm
) -> None:
    summary = small_batch.run(images, tmp_path / "out", store=store, url=llm.url)
    assert summary.complete
    assert summary.statuses == {"ok": COUNT}
    assert sorted(line["study_id"] for line in lines(tmp_path / "out")) == [
        f"f{number:03d}" for number in range(COUNT)
    ]
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (written["studies"], written["left"], written["statuses"]) == (COUNT, 0, {"ok": COUNT})
    assert (tmp_path / "out" / "studies.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_second_run_does_nothing(
    tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm
) -> None:
    small_batch.run(images, tmp_path, store=store, url=llm.url)
    before = (tmp_path / "predictions.jsonl").read_bytes()
    asked = len(llm.prompts)
    assert small_batch.run(images, tmp_path, store=store, url=llm.url).complete
    assert (tmp_path / "predictions.jsonl").read_bytes() == before
    assert len(llm.prompts) == asked


def test_a_batch_equals_single_studies(
    tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm
) -> None:
    small_batch.run(images, tmp_path, store=store, url=llm.url)
    with small_batch.small_pipeline(store, llm.url) as pipeline:
        from rag.study import Study  # noqa: PLC0415

        for line in lines(tmp_path)[:5]:
            study = Study(images / line["file"], line["file"], study_id=line["study_id"])
            alone = pipeline.invoke(study).to_json()
            assert {**alone, "seconds": None} == {**line, "seconds": None}


def test_failures_are_recorded_and_can_be_retried(
    tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm
) -> None:
    folder = tmp_path / "in"
    draw_images(folder, 4)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (folder / "gone.dcm").symlink_to(tmp_path / "nowhere")
    summary = small_batch.run(folder, tmp_path / "out", store=store, url=llm.url)
    assert not summary.complete
    assert summary.statuses == {"ok": 4, "failed": 2}
    assert summary.errors == {"ImageReadError": 2}
    failed = {line["study_id"]: line for line in lines(tmp_path / "out") if line["error"]}
    assert set(failed) == {"broken", "gone"}
    assert all(line["reason"] for line in failed.values())

    asked = len(llm.prompts)
    assert not small_batch.run(folder, tmp_path / "out", store=store, url=llm.url).complete
    assert len(llm.prompts) == asked, "failures are retried only on request"

    draw_image(folder / "broken.png", 77)
    again = small_batch.run(folder, tmp_path / "out", store=store, url=llm.url, retry_failed=True)
    assert again.statuses == {"ok": 5, "failed": 1}
    assert Counter(line["study_id"] for line in lines(tmp_path / "out")).most_common(1)[0][1] == 1


def count_drafts() -> float:
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        if metric.name == "cxr_rag_drafts"
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


def test_an_unexpected_failure_is_counted_too(
    tmp_path: Path, store: Path, llm: ChoosingLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag.pipeline.load", lambda study: 1 / 0)
    before = count_drafts()
    images = draw_images(tmp_path / "in", 2)
    found = small_batch.run(images, tmp_path / "out", store=store, url=llm.url)
    assert found.errors == {"ZeroDivisionError": 2}
    assert count_drafts() - before == 2


def test_a_busy_server_slows_the_batch_and_loses_nothing(
    tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm
) -> None:
    llm.delay_s = 0.01
    llm.status = lambda prompt: 429 if llm.active > 2 else 200
    before = count_drafts()
    summary = small_batch.run(images, tmp_path, store=store, url=llm.url, outage_timeout_s=60)
    assert summary.this_run.total() == COUNT
    assert summary.statuses["ok"] >= COUNT - 2
    assert count_drafts() - before == COUNT, "each once, however often it was retried"


def test_an_outage_stops_the_batch_and_fails_no_study(
    tmp_path: Path, store: Path, images: Path
) -> None:
    with pytest.raises(BatchError, match="no model server"):
        small_batch.run(
            images, tmp_path, store=store, url="http://127.0.0.1:9/v1", outage_timeout_s=0.5
        )
    # if the similar reports leave nothing to choose, no model is asked
    assert {line["status"] for line in lines(tmp_path)} <= {"ok"}
    with fake_choosing_llm.serve() as llm:
        assert small_batch.run(images, tmp_path, store=store, url=llm.url).statuses == {"ok": COUNT}


def test_two_batches_on_one_output_are_refused(tmp_path: Path) -> None:
    with (
        open_output(tmp_path),
        pytest.raises(UsageError, match="another process is writing"),
        open_output(tmp_path),
    ):
        pass
    with open_output(tmp_path):
        pass


def test_predictions_of_another_model_are_not_mixed(
    tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm
) -> None:
    small_batch.run(images, tmp_path, store=store, url=llm.url)
    path = tmp_path / "predictions.jsonl"
    path.write_text(path.read_text().replace('"llm": "fake-model"', '"llm": "another"'))
    with pytest.raises(UsageError, match="llm was 'another' and is 'fake-model'"):
        small_batch.run(images, tmp_path, store=store, url=llm.url)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[1]\n{}\n", "other keys"),
        (b'{"study_id": "a"}\n', "other keys"),
        (b"not json\n{}\n", "not JSON"),
    ],
)
def test_a_foreign_predictions_file_is_not_touched(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words), open_output(tmp_path):
        pass
    assert path.read_bytes() == content


def test_a_stop_finishes_drafts_in_progress_and_starts_none(
    tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm
) -> None:
    llm.delay_s = 0.2
    stop = Stop()

    def end_soon(prompt: str) -> int:
        if len(llm.prompts) == 6:
            stop.set()
        return 200

    llm.status = end_soon
    small_batch.run(images, tmp_path, store=store, url=llm.url, stop=stop)
    done = lines(tmp_path)
    assert 0 < len(done) < COUNT
    assert {line["status"] for line in done} == {"ok"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["left"] == COUNT - len(done)
    llm.status = lambda prompt: 200
    assert small_batch.run(images, tmp_path, store=store, url=llm.url).complete


def test_an_unwritable_output_is_refused_in_one_sentence(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(OutputError, match="cannot write"), open_output(blocker / "out"):
        pass


def test_a_full_disk_leaves_complete_lines(
    tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm
) -> None:
    with Forks() as forks:
        code = forks.run(
            images=images, output=tmp_path, store=store, url=llm.url, largest_file=30_000
        )
    assert code == batch_child.SMALL_DISK
    path = tmp_path / "predictions.jsonl"
    assert path.read_bytes().endswith(b"\n")
    assert 0 < len(lines(tmp_path)) < COUNT
    assert small_batch.run(images, tmp_path, store=store, url=llm.url).statuses == {"ok": COUNT}


@pytest.mark.slow
def test_killed_at_any_point_nothing_is_lost_duplicated_or_cut(
    tmp_path: Path, store: Path, llm: ChoosingLlm
) -> None:
    """50 trials; SIGKILL hits between two lines, within one, or at a random moment of the run."""
    count = 10
    images = draw_images(tmp_path / "in", count)
    small_batch.run(images, tmp_path / "whole", store=store, url=llm.url)
    expected = without_times(tmp_path / "whole")
    rng = random.Random(6)  # noqa: S311
    in_the_middle = 0
    with Forks() as forks:
        for trial in range(50):
            output = tmp_path / str(trial)
            batch = {"images": images, "output": output, "store": store, "url": llm.url}
            if trial % 5:
                cut = (rng.randint(1, count), rng.choice([0, rng.randint(1, 600), 1_000_000]))
                assert forks.run(kill_at=cut, **batch) == KILLED
                in_the_middle += 0 < len(lines_so_far(output)) < count
            else:
                forks.run(after(rng.uniform(0, 0.5)), **batch)
            assert forks.run(**batch) == 0
            assert without_times(output) == expected, f"trial {trial}"
    assert in_the_middle >= 30


def after(seconds: float) -> Callable[[], bool]:
    """True once so many seconds have passed."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() > deadline


@pytest.mark.slow
def test_killed_while_failures_are_retried(tmp_path: Path, store: Path, llm: ChoosingLlm) -> None:
    folder = draw_images(tmp_path / "in", 12)
    for number in range(6):
        (folder / f"x{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    small_batch.run(folder, tmp_path / "out", store=store, url=llm.url)
    rng = random.Random(7)  # noqa: S311
    batch = {"images": folder, "output": tmp_path / "out", "store": store, "url": llm.url}
    killed = 0
    with Forks() as forks:
        started = time.monotonic()
        assert forks.run(retry_failed=True, **batch) == 0
        whole = time.monotonic() - started
        for _ in range(30):  # the images are still broken: the failures are dropped each time
            killed += forks.run(after(rng.uniform(0, whole)), retry_failed=True, **batch) == KILLED
            done = Counter(line["study_id"] for line in lines_so_far(tmp_path / "out"))
            assert {f"f{number:03d}" for number in range(12)} <= set(done)
            assert max(done.values()) == 1
    assert killed > 10
    for number in range(6):
        draw_image(folder / f"x{number}.png", 100 + number)
    summary = small_batch.run(folder, tmp_path / "out", store=store, url=llm.url, retry_failed=True)
    assert summary.statuses == {"ok": 18}
    assert len(lines(tmp_path / "out")) == 18


def test_drafts_are_concurrent(tmp_path: Path, store: Path, images: Path, llm: ChoosingLlm) -> None:
    llm.delay_s = 0.1
    small_batch.run(images, tmp_path, store=store, url=llm.url)
    assert llm.max_active > 3
