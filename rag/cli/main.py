"""The command line: `cxr-rag demo | index | query | generate | batch | eval | doctor | ...`.

The entry point, above app.py and eval, whose commands it mounts. Heavy modules are imported inside
the commands, so that `--help` answers at once.
"""

import json
import logging
import os
import signal
import sys
from datetime import UTC, datetime

import typer

from eval.cli import app as eval_app
from rag.cli import audit, batch, demo, dicom, encoder, images, index
from rag.cli.options import EXIT_CODES, EXIT_FAILED, EXIT_USAGE, fail
from rag.errors import CxrRagError, UsageError
from rag.schema import NOTICE

app = typer.Typer(
    help=f"Draft chest X-ray reports from evidence. {NOTICE}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    epilog=EXIT_CODES,
)
app.command()(demo.demo)
app.command()(images.query)
app.command()(images.generate)
app.command()(batch.batch)
app.command()(encoder.calibrate)
app.command()(encoder.fit_heads)
app.add_typer(index.app, name="index")
eval_app.command()(encoder.encoders)
app.add_typer(eval_app, name="eval", help="Score drafts and encoders, with intervals.")
app.command()(demo.doctor)
app.add_typer(audit.app, name="audit")
app.command()(audit.replay)
app.command()(images.locate)
app.command()(encoder.train)
app.command()(encoder.embed)
app.command()(dicom.deid)
app.add_typer(dicom.app, name="dicomweb")
app.add_typer(dicom.dimse, name="dimse")
app.command()(dicom.receive)


def main() -> None:
    """Run a command; an expected failure is one line, never a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch's threads sleep while waiting; spinning, they took six times as long on busy cores
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        _start_logging(
            os.environ.get("CXR_RAG_LOG", "ERROR"), os.environ.get("CXR_RAG_LOG_FORMAT", "text")
        )
        app()
    except UsageError as error:
        fail(error, EXIT_USAGE)
    except CxrRagError as error:
        fail(error, EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


class _JsonFormatter(logging.Formatter):
    """A log line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _start_logging(level: str, form: str) -> None:
    if level.upper() not in logging.getLevelNamesMapping():
        raise UsageError(f"CXR_RAG_LOG is {level!r}, not one of DEBUG, INFO, WARNING, ERROR")
    if form not in ("text", "json"):
        raise UsageError(f"CXR_RAG_LOG_FORMAT is {form!r}, not one of text, json")
    logging.basicConfig(level=level.upper(), stream=sys.stderr)
    if form == "json":
        logging.getLogger().handlers[0].setFormatter(_JsonFormatter())


if __name__ == "__main__":
    main()
