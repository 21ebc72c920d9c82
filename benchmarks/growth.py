"""How the cost of `cxr-rag batch --no-llm` grows with 1, 2, 4 and 8 times the studies.

    python benchmarks/growth.py [--studies 50]

Studies are phantoms of 1024 x 1024, repeated; the index is that of ``--config``.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from common import phantoms, run_studies

from rag.config_file import load_settings
from rag.factory import load_encoder, open_pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--studies", type=int, default=50)
    options = parser.parse_args()
    settings = load_settings(options.config)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pipeline(settings, load_encoder(settings)) as pipeline,
    ):
        pipeline.drafter.llm = None
        images = phantoms(Path(folder), min(16, options.studies))
        run_studies(images, pipeline, Path(folder) / "warm-up", concurrency=4)
        print("| studies | seconds | per second | CPU ms each | peak MiB |\n|---|---|---|---|---|")
        for factor in (1, 2, 4, 8):
            count = factor * options.studies
            studies = [
                replace(study, study_id=str(number))
                for number, study in enumerate(islice(cycle(images), count))
            ]
            started, cpu_started = time.perf_counter(), time.process_time()
            run_studies(studies, pipeline, Path(folder) / f"out-{factor}", concurrency=4)
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"| {count} | {seconds:.1f} | {count / seconds:.2f} | {1000 * cpu / count:.0f} "
                f"| {peak:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
