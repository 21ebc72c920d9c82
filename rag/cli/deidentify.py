"""`cxr-rag deid`: copies of DICOM files without identifiers."""

import sys
from pathlib import Path
from typing import Annotated

import typer

EXIT_USAGE, EXIT_FAILED = 2, 3


def deid(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A DICOM file, or a folder.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the copies.")],
) -> None:
    """Copy DICOM files without identifiers (PS3.15 Basic Profile); pixels are not touched.

    Names of the copies are new UIDs. Exit codes: 0 every file was copied; 2 wrong usage; 3 some
    were not, or have something on them that a person must look at.
    """
    from rag.privacy.deidentify import (  # noqa: PLC0415 - pydicom takes a second
        Deidentifier,
        DeidentifyError,
        dicom_files,
    )

    if not source.exists():
        _fail(f"there is no {source}")
    if output.resolve().is_relative_to(source.resolve()):
        _fail(f"{output} lies in {source}: the copies would be mixed with the originals")
    files = [source] if source.is_file() else list(dicom_files(source))
    if not files:
        _fail(f"there is no DICOM file in {source}")
    copies = Deidentifier()
    refused = to_look_at = 0
    for number, path in enumerate(files, 1):
        try:
            copied = copies.copy(path, output)
        except DeidentifyError as error:  # the path may name the patient: the user gave it, on
            refused += 1  # the user's terminal it stays
            typer.secho(f"not copied: {path}: {error}", err=True, fg="red")
        else:
            to_look_at += bool(copied.warnings)
            for warning in copied.warnings:
                typer.secho(f"look at {copied.path} (file {number}): {warning}", err=True)
    typer.echo(
        f"{len(files) - refused} of {len(files)} files copied to {output}; {to_look_at} to look at"
    )
    sys.exit(EXIT_FAILED if refused or to_look_at else 0)


def _fail(words: str) -> None:
    typer.secho(f"cxr-rag: {words}", err=True, fg="red")
    sys.exit(EXIT_USAGE)
