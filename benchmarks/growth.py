"""How a batch grows: 1, 2, 4 and 8 times the studies, a model server of fixed latency.

    python benchmarks/growth.py [--studies 50] [--latency 0.5] [--at-once 8]

Everything is what `cxr-rag batch` runs (reading, encoder, index of ``--config``, checks, the file
that is written and flushed), except the model: a server on loopback that answers every question
after the same time with its first choices. Studies are phantoms of 1024 x 1024, repeated.
"""

import argparse
import json
import resource
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from demo.phantom import write_phantom_dicom
from rag.batch.inputs import BatchStudy
from rag.batch.output import PREDICTIONS, BatchOutput
from rag.batch.runner import Counts, run_batch
from rag.batch.workers import Engine, Outage, threaded_prepare
from rag.config_file import load_settings
from rag.factory import load_encoder, open_pipeline
from rag.llm.client import ChatClient
from rag.pipeline import ReportPipeline

DISTINCT = 16  # phantoms
STEPS = (1, 2, 4, 8)


class FixedLatency(BaseHTTPRequestHandler):
    """Answers after `seconds` with the first of each choice."""

    seconds = 0.5

    def log_message(self, *_: object) -> None:  # noqa: D102 - the base class says it
        pass

    def do_GET(self) -> None:  # noqa: D102 - as above
        self._send("application/json", json.dumps({"data": [{"id": "fixed"}]}))

    def do_POST(self) -> None:  # noqa: D102 - as above
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        properties = body["response_format"]["json_schema"]["schema"]["properties"]
        answer = json.dumps({name: value["enum"][0] for name, value in properties.items()})
        time.sleep(self.seconds)
        events = [event({"content": answer}, None), event({}, "stop"), "data: [DONE]\n\n"]
        self._send("text/event-stream", "".join(events))

    def _send(self, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def event(delta: dict[str, str], finish_reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "1", "object": "chat.completion.chunk", "model": "fixed", "created": 0}
    return f"data: {json.dumps({**chunk, 'choices': [choice]})}\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--at-once", type=int, default=8)
    chosen = parser.parse_args()
    FixedLatency.seconds = chosen.latency
    server = ThreadingHTTPServer(("127.0.0.1", 0), FixedLatency)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = load_settings(chosen.config)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    llm = settings.llm.model_copy(update={"url": url})
    print("| studies | seconds | a second | of the model's rate | processor ms each | peak MiB |")
    print("|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as name,
        open_pipeline(settings, load_encoder(settings)) as pipeline,
    ):
        pipeline.drafter.llm = ChatClient(llm)
        folder = Path(name)
        images = [folder / f"{seed}.dcm" for seed in range(DISTINCT)]
        for seed, image in enumerate(images):
            write_phantom_dicom(image, seed=seed)
        for step in (0, *STEPS):  # the first is to warm
            count = max(step * chosen.studies, chosen.at_once)
            studies = [
                BatchStudy(
                    study_id=f"{number:07d}", image=images[number % DISTINCT], name="phantom"
                )
                for number in range(count)
            ]
            out = folder / f"out-{step}"
            started, worked = time.perf_counter(), time.process_time()
            summary = run(studies, pipeline, out, chosen.at_once, settings.batch.num_workers)
            seconds = time.perf_counter() - started
            worked = time.process_time() - worked
            if step:
                model = count * chosen.latency / chosen.at_once
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(
                    f"| {count} | {seconds:.1f} | {count / seconds:.2f} | "
                    f"{model / seconds:.2f} | {1000 * worked / count:.0f} | {peak:.0f} |",
                    flush=True,
                )
        stages, count = summary.stages, summary.now.total()
        size = (out / PREDICTIONS).stat().st_size / count
    print(f"\nlatency {chosen.latency} s, {chosen.at_once} at once, {summary.statuses}")
    means = ", ".join(f"{name} {1000 * stages[name] / count:.1f}" for name in sorted(stages))
    print(f"mean ms a study of the last: {means}; {size:.0f} bytes a line")


def run(
    studies: list[BatchStudy], pipeline: ReportPipeline, out: Path, at_once: int, readers: int
) -> Counts:
    with BatchOutput(out) as output:
        prepare = threaded_prepare(pipeline, threads=readers)
        return run_batch(studies, Engine(pipeline, prepare, at_once, Outage(300)), output)


if __name__ == "__main__":
    main()
