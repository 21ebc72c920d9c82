"""`cxr-rag locate`: where on an image each finding is."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rag.cli.options import EXIT_FAILED, Config, Json, complain, read_settings, say
from rag.errors import NoDraft
from rag.schema import NOTICE

if TYPE_CHECKING:
    from rag.localization import LocatedFinding, MapEncoder


def locate(
    images: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM, PNG or JPEG.")],
    *,
    config: Config = "cpu",
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also draw the findings on the images.")
    ] = None,
) -> None:
    """Show where each finding would be on an image (experimental); no language model is asked.

    Exit codes: 0 all images were read; 3 some could not be, or show no chest.
    """
    settings = read_settings(config)
    from encoders.images.raw_image import ImageReadError  # noqa: PLC0415 - torch takes seconds
    from rag.atomic_io import disk_explained  # noqa: PLC0415
    from rag.factory import encoder_folder, load_encoder  # noqa: PLC0415
    from rag.localization import draw_overlay, locate_findings, write_overlay  # noqa: PLC0415
    from rag.screening.finding_head import load_finding_predictor  # noqa: PLC0415
    from rag.study import Study, load  # noqa: PLC0415

    encoder = load_encoder(settings)
    folder = encoder_folder(settings, encoder)
    head = load_finding_predictor(folder, encoder.encoder_id, settings.drafting)
    failed = False
    for path in images:
        try:
            image = load(Study(path, name=path.name)).views[0]
        except (ImageReadError, NoDraft) as error:
            complain(f"cxr-rag: {path}: {error}")
            failed = True
            continue
        found = locate_findings(cast("MapEncoder", encoder), image, head=head)
        for line in _lines(path, found, as_json=as_json):
            typer.echo(line)
        if out is not None:
            with disk_explained(out):
                written = write_overlay(draw_overlay(image, found), path, out)
            say(f"{path}: overlay in {written}")
    if not as_json:
        typer.echo(f"Experimental. {NOTICE}.")
    if failed:
        sys.exit(EXIT_FAILED)


def _lines(path: Path, found: "list[LocatedFinding]", *, as_json: bool) -> Iterator[str]:
    for each in found:
        if as_json:
            yield json.dumps({"file": str(path), **each.to_json()}, ensure_ascii=False)
        else:
            (x, y), box = each.region.peak, each.region.box
            place = ", ".join(f"{value:.2f}" for value in box)
            yield (
                f"{each.probability:>6.1%}  {each.finding:<20} peak ({x:.2f}, {y:.2f})  "
                f"box ({place})  {path.name}"
            )
