"""`cxr-rag calibrate` and `fit-heads`: what one's own images and reports say of an encoder."""

from pathlib import Path
from typing import Annotated

import typer

from rag.cli.options import Config, Source, read_settings, say
from rag.errors import CalibrationError

Reports = Annotated[
    Path,
    typer.Argument(metavar="REPORTS", help="As for `cxr-rag index --collection`, with study ids."),
]


def calibrate(
    images: Source,
    reports: Reports,
    *,
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default beside the encoder's weights.")
    ] = None,
    config: Config = "cpu",
) -> None:
    """Measure how far predicted findings can be trusted here, and keep it for later drafts.

    Take images and reports of patients that nothing was trained on. Name the file that --out writes
    as drafting.calibration.
    """
    settings = read_settings(config)
    from rag.factory import encoder_folder, load_encoder  # noqa: PLC0415 - torch takes seconds
    from rag.screening.calibration import write_calibration  # noqa: PLC0415
    from rag.screening.finding_head import CALIBRATION, load_finding_predictor  # noqa: PLC0415
    from rag.screening.recalibration import comparison, measure, recalibrate  # noqa: PLC0415

    encoder = load_encoder(settings)
    folder = encoder_folder(settings, encoder)
    predictor = load_finding_predictor(folder, encoder.encoder_id, settings.drafting)
    if predictor is None:
        raise CalibrationError(f"{folder} has no finding head: there is nothing to calibrate")
    measured = measure(images, reports, encoder=encoder, head=predictor.head)
    typer.echo(comparison(measured, predictor.head, predictor.calibration))
    path = out or folder / CALIBRATION
    write_calibration(path, recalibrate(measured, predictor.head))
    say(f"written to {path}")


def fit_heads(images: Source, reports: Reports, *, config: Config = "cpu") -> None:
    """Make finding head, calibration and refusal statistics for the chosen encoder.

    Two thirds of the patients train, the others calibrate. Take studies that no evaluation uses.
    """
    settings = read_settings(config)
    from rag.factory import fitted_folder, load_encoder  # noqa: PLC0415 - torch takes seconds
    from rag.screening.encoder_fit import fit_parts, write_parts  # noqa: PLC0415
    from rag.screening.finding_head_training import table  # noqa: PLC0415

    encoder = load_encoder(settings)
    fitted = fit_parts(images, reports, encoder=encoder)
    typer.echo(table(fitted.calibration))
    folder = fitted_folder(settings, encoder)
    write_parts(folder, fitted)
    say(f"written to {folder}; drafts with {settings.encoder} use it from now on")
