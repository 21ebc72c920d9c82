"""`cxr-rag deid`: copies of DICOM files without identifiers."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rag.cli.options import EXIT_FAILED, complain
from rag.errors import UsageError


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
    mask_text: Annotated[
        bool, typer.Option(help="Blacken what looks like text on the images.")
    ] = False,
) -> None:
    """Copy DICOM files without identifiers (PS3.15 Basic Profile).

    Copies are named by their new UIDs. Exit codes: 0 every file was copied; 2 wrong usage; 3 some
    were not, or need a person to check them.
    """
    from rag.privacy.deidentify import (  # noqa: PLC0415 - pydicom takes a second
        Deidentifier,
        DeidentifyError,
        dicom_and_other_files,
    )
    from rag.privacy.pseudonyms import Pseudonyms  # noqa: PLC0415

    if not source.exists():
        raise UsageError(f"there is no {source}")
    if output.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{output} is inside {source}: copies would mix with originals")
    files, others = ([source], []) if source.is_file() else dicom_and_other_files(source)
    if not files:
        raise UsageError(f"there is no DICOM file in {source}")
    pseudonyms = Pseudonyms.of_file(key) if key else Pseudonyms()
    copies = Deidentifier(pseudonyms, shift_dates=shift_dates, mask_writing=mask_text)
    refused = to_look_at = 0
    for number, path in enumerate(files, 1):
        try:
            copied = copies.copy(path, output)
        except DeidentifyError as error:  # the path may name the patient: the user gave it, on
            refused += 1  # the user's terminal it stays
            complain(f"not copied: {path}: {error}")
        else:
            to_look_at += bool(copied.warnings)
            for warning in copied.warnings:
                typer.secho(f"check {copied.path} (file {number}): {warning}", err=True)
    for path in others:
        typer.secho(f"not DICOM, not copied: {path}", err=True)
    beside = f"; {len(others)} not DICOM, not copied" if others else ""
    typer.echo(
        f"{len(files) - refused} of {len(files)} files copied to {output}; {to_look_at} to check"
        f"{beside}"
    )
    sys.exit(EXIT_FAILED if refused or to_look_at else 0)
