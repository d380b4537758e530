"""`cutback profile` and `predict`: what kernels cost on a device."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress


def profile_command(
    model: options.Model,
    target: options.TargetName = "local",
    shape: options.Shapes = None,
    db: options.Database = None,
    borrow: options.Borrow = None,
    fleet: Annotated[
        bool,
        typer.Option(
            "--fleet",
            help="Measure on all devices with the target's tag side by side.",
            rich_help_panel="Measuring",
        ),
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option(
            "--devices",
            metavar="N",
            help="Of a fleet: so many at a time. [dim]Unset: as many as there are[/dim]",
            rich_help_panel="Measuring",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Time the network's kernels on a device at the widths that matter, and keep the times in the profile database."""
    shapes, parts = options.parse_shapes(shape), options.parse_borrow(borrow)
    from pipeline.profile import profile

    with progress() as on_progress:
        result = profile(
            model, shapes=shapes, target=target, db=db, borrow=parts, fleet=fleet, devices=devices,
            on_progress=on_progress, tell=on_progress.line,
        )  # fmt: skip
    if json:
        print_json(result)
    else:
        from pipeline.cli.tables import print_profile

        print_profile(result)


def predict_command(
    model: options.Model,
    plan: Annotated[Path, typer.Option("--plan", metavar="PLAN.json", help="What prune wrote with --plan.")],
    target: options.TargetName = "local",
    shape: options.Shapes = None,
    db: options.Database = None,
    borrow: options.Borrow = None,
    json: options.Json = False,
) -> None:
    """Predict the latency of a cut from measured kernels; those that the profile database lacks are timed first."""
    shapes, parts = options.parse_shapes(shape), options.parse_borrow(borrow)
    from pipeline.predict import predict

    with progress() as on_progress:
        result = predict(
            model, plan, shapes=shapes, target=target, db=db, borrow=parts, on_progress=on_progress,
            tell=on_progress.line,
        )  # fmt: skip
    if json:
        print_json(result)
    else:
        from pipeline.cli.tables import print_prediction

        print_prediction(result)
