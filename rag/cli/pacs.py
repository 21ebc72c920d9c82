"""`cxr-rag dicomweb` and `cxr-rag receive`: images from a PACS, reports back."""

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from rag.cli.options import EXIT_FAILED, complain
from rag.errors import UsageError

app = typer.Typer(
    help="Fetch a study's images from a DICOMweb server, store a report there.",
    no_args_is_help=True,
)

Url = Annotated[str, typer.Argument(metavar="URL", help="As https://server/dicom-web.")]


@app.command()
def fetch(
    url: Url,
    study_uid: Annotated[str, typer.Argument(metavar="STUDY_UID", help="StudyInstanceUID.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the images.")],
) -> None:
    """Fetch all images of a study; `cxr-rag batch OUT ...` reports from them.

    Exit codes: 0 all came; 3 some did not, or the server could not be asked.
    """
    from rag.pacs.dicomweb import fetch_study  # noqa: PLC0415 - pydicom takes a second

    found = fetch_study(url, study_uid, output)
    for problem in found.problems:
        complain(f"not fetched: {problem}")
    others = f"; {len(found.notes)} notes about images" if found.notes else ""
    others += f"; {found.others} other objects were left" if found.others else ""
    typer.echo(f"{len(found.images)} images in {output}{others}")
    for image in found.images:
        typer.echo(f"  {image.relative_to(output)}")
    if found.problems or not found.images:
        sys.exit(EXIT_FAILED)


@app.command()
def store(
    url: Url,
    report: Annotated[Path, typer.Argument(metavar="SR.dcm", help="A DICOM structured report.")],
) -> None:
    """Store a structured report; an unsigned draft stays PARTIAL and UNVERIFIED."""
    from rag.pacs.dicomweb import store_report  # noqa: PLC0415

    typer.echo(f"stored: {', '.join(store_report(url, report))}")


def receive(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the images.")],
    allow: Annotated[
        list[str],
        typer.Option(help="Who may send: TITLE@ADDRESS, as PACS@10.1.2.3 or PACS@10.1.2.0/24."),
    ],
    *,
    ae_title: Annotated[str, typer.Option(help="Our AE title.")] = "CXRRAG",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 11112,
    max_megabytes: Annotated[int, typer.Option(help="Largest image.", min=1, max=256)] = 256,
) -> None:
    """Receive images by DICOM C-STORE until Ctrl-C; names of files are made here."""
    from rag.pacs import PacsError  # noqa: PLC0415
    from rag.pacs.receiver import receiving  # noqa: PLC0415
    from rag.pacs.senders import Sender  # noqa: PLC0415

    try:
        senders = tuple(map(Sender.parse, allow))
    except PacsError as error:
        raise UsageError(f"--allow: {error}") from error

    ended = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: ended.set())
    with receiving(
        output,
        title=ae_title,
        senders=senders,
        host=host,
        port=port,
        max_bytes=max_megabytes << 20,
    ) as receiver:
        typer.echo(f"{ae_title} listens at {host} port {receiver.port}; Ctrl-C ends", err=True)
        ended.wait()
    counts = receiver.receipts.counts
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    typer.echo(told or "nothing was sent")
