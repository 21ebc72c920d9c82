"""How a batch without a language model grows: 1, 2, 4 and 8 times the studies.

    python benchmarks/growth.py [--studies 50]

Everything is what `cxr-rag batch --no-llm` runs: reading, encoder, index of ``--config``, checks,
the file that is written and flushed. Studies are phantoms of 1024 x 1024, repeated.
"""

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from common import draft, phantoms

from rag.config_file import load_settings
from rag.factory import load_encoder, open_pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="cpu")
    parser.add_argument("--studies", type=int, default=50)
    chosen = parser.parse_args()
    settings = load_settings(chosen.config)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_pipeline(settings, load_encoder(settings)) as pipeline,
    ):
        pipeline.drafter.llm = None
        drawn = phantoms(Path(folder), min(16, chosen.studies))
        draft(drawn, pipeline, Path(folder) / "warm", at_once=4)
        print(
            "| studies | seconds | a second | processor ms each | peak MiB |\n|---|---|---|---|---|"
        )
        for step in (1, 2, 4, 8):
            count = step * chosen.studies
            studies = [
                replace(study, study_id=str(number))
                for number, study in enumerate(islice(cycle(drawn), count))
            ]
            started, worked = time.perf_counter(), time.process_time()
            draft(studies, pipeline, Path(folder) / f"out-{step}", at_once=4)
            seconds, busy = time.perf_counter() - started, time.process_time() - worked
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"| {count} | {seconds:.1f} | {count / seconds:.2f} | {1000 * busy / count:.0f} "
                f"| {peak:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
