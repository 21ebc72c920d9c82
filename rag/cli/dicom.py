"""`cxr-rag dicomweb | dimse | receive | deid`: images from a PACS, reports back, pseudonyms."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rag.cli.options import EXIT_FAILED, Config, print_error, read_settings, say
from rag.errors import UsageError

app = typer.Typer(
    help="Fetch a study's images from a DICOMweb server, or store a report.", no_args_is_help=True
)

dimse = typer.Typer(
    help="Find and fetch studies by DICOM C-FIND, C-GET, C-MOVE.", no_args_is_help=True
)

Url = Annotated[str, typer.Argument(metavar="URL", help="For example https://server/dicom-web.")]
StudyUid = Annotated[str, typer.Argument(metavar="STUDY_UID", help="StudyInstanceUID.")]
Output = Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the images.")]
Peer = Annotated[
    str, typer.Argument(metavar="ARCHIVE", help="TITLE@HOST:PORT, for example PACS@10.1.2.3:104.")
]


@app.command()
def fetch(url: Url, study_uid: StudyUid, output: Output) -> None:
    """Fetch the images of a study, for `cxr-rag batch`.

    Exit codes: 0 all were fetched; 3 some were not, there are none, or the server did not answer.
    """
    from rag.pacs.dicomweb import fetch_study

    _report_fetch(*fetch_study(url, study_uid, output), output)


def _report_fetch(
    images: Sequence[Path], problems: Sequence[str], output: Path, note: str = ""
) -> None:
    for problem in problems:
        print_error(f"not fetched: {problem}")
    typer.echo(f"{len(images)} images in {output}{note}")
    for image in images:
        typer.echo(f"  {image.relative_to(output)}")
    if problems or not images:
        sys.exit(EXIT_FAILED)


@app.command()
def store(
    url: Url,
    report: Annotated[Path, typer.Argument(metavar="SR.dcm", help="A DICOM structured report.")],
) -> None:
    """Store a structured report; an unsigned draft stays PARTIAL and UNVERIFIED."""
    from rag.pacs.dicomweb import store_report

    typer.echo(f"stored: {', '.join(store_report(url, report))}")


@dimse.command()
def find(
    archive: Peer,
    *,
    config: Config = "cpu",
    patient_id: Annotated[str, typer.Option(help="PatientID.")] = "",
    accession: Annotated[str, typer.Option(help="AccessionNumber.")] = "",
    date: Annotated[str, typer.Option(help="20260101 or 20260101-20260131.")] = "",
) -> None:
    """List studies: UID, date and time, modalities, description."""
    from rag.pacs.association import Archive
    from rag.pacs.dimse import find_studies

    found = find_studies(
        Archive.parse(archive),
        read_settings(config).dicom,
        patient_id=patient_id,
        accession=accession,
        date=date,
    )
    for study in found:
        kinds = ",".join(study.modalities)
        typer.echo("\t".join((study.uid, study.taken_at, kinds, study.description)))


@dimse.command("fetch")
def dimse_fetch(
    archive: Peer,
    study_uid: StudyUid,
    output: Output,
    *,
    config: Config = "cpu",
    priors: Annotated[
        int, typer.Option(help="Also fetch this many earlier chest X-rays of the patient.", min=0)
    ] = 0,
    move: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="Use C-MOVE, and receive at this address.")
    ] = "",
) -> None:
    """Fetch the images of a study and its priors, by C-GET unless --move is given.

    Exit codes: 0 all were fetched; 3 some were not, there are none, or the archive did not answer.
    """
    from rag.pacs import PacsError
    from rag.pacs.association import Archive
    from rag.pacs.dimse import fetch_images, find_priors, find_studies

    peer, settings = Archive.parse(archive), read_settings(config).dicom
    studies = find_studies(peer, settings, study_uid=study_uid)
    if not studies:
        raise PacsError("the archive does not know this study")
    earlier = find_priors(peer, settings, studies[0], limit=priors) if priors else []
    destination = Archive.parse(f"{settings.ae_title}@{move}") if move else None
    images, problems = fetch_images(
        peer,
        settings,
        [study_uid, *(prior.uid for prior in earlier)],
        output,
        move_to=(destination.host, destination.port) if destination else None,
    )
    _report_fetch(images, problems, output, f"; {len(earlier)} priors")


def receive(
    output: Output,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Who may send, besides dicom.peers: TITLE@ADDRESS, such as PACS@10.1.2.0/24."
        ),
    ] = None,
    *,
    config: Config = "cpu",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)
    ] = 11112,
) -> None:
    """Receive images by DICOM C-STORE until Ctrl-C."""
    from rag.pacs.receiver import run_receiver

    settings = read_settings(config).dicom
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with run_receiver(output, settings, senders=allow or (), host=host, port=port) as receiver:
        say(f"{settings.ae_title} listens on {host} port {receiver.port}; Ctrl-C stops it")
        ended.wait()
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(receiver.counts.items()))
    typer.echo(counts or "nothing was sent")


def deid(
    source: Annotated[Path, typer.Argument(metavar="IN", help="DICOM file or folder.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the copies.")],
    *,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Secret key, created if missing: a patient gets the same pseudonym in every run.",
        ),
    ] = None,
    shift_dates: Annotated[
        bool, typer.Option(help="Shift a patient's dates by one offset instead of removing them.")
    ] = False,
) -> None:
    """Copy DICOM files without identifiers (PS3.15 Basic Profile).

    Copies are named by their new UIDs. Exit codes: 0 every file was copied; 2 wrong usage; 3 some
    were not, or need a person to check them.
    """
    from rag.privacy.deidentify import Deidentifier, DeidentifyError, is_dicom_object
    from rag.privacy.header import Pseudonyms

    if not source.exists():
        raise UsageError(f"there is no {source}")
    if output.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{output} is inside {source}: copies would mix with originals")
    if source.is_file():
        found = files = [source]
    else:
        # unlike `Path.is_dir`, `isdir` does not raise if permission is denied
        found = sorted(p for p in source.rglob("*") if not os.path.isdir(p))  # noqa: PTH112
        files = list(filter(is_dicom_object, found))
    if not files:
        raise UsageError(f"there is no DICOM file in {source}")
    pseudonyms = Pseudonyms.from_key_file(key) if key else Pseudonyms()
    copies = Deidentifier(pseudonyms, shift_dates=shift_dates)
    refused = to_check = 0
    for number, path in enumerate(files, 1):
        try:
            copied = copies.copy(path, output)
        except DeidentifyError as error:
            refused += 1
            # the path may name the patient, but it stays on the terminal of the user who gave it
            print_error(f"not copied: {path}: {error}")
        else:
            to_check += bool(copied.warnings)
            for warning in copied.warnings:
                say(f"check {copied.path} (file {number}): {warning}")
    others = sorted(set(found) - set(files))
    for path in others:
        say(f"not DICOM, not copied: {path}")
    not_dicom = f"; {len(others)} not DICOM, not copied" if others else ""
    typer.echo(
        f"{len(files) - refused} of {len(files)} files copied to {output}; {to_check} to check"
        f"{not_dicom}"
    )
    sys.exit(EXIT_FAILED if refused or to_check else 0)
