"""`cutback build`: an engine of a network as it is."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress
from targets.errors import BadInput
from targets.target_fields import PRECISIONS


def build_command(
    model: options.Model,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="ENGINE", help="The engine's file; the runtime's suffix is added."),
    ],
    target: options.TargetName = "local",
    shape: options.Shapes = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="fp32|fp16|bf16|int8",
            help="Of the engine; int8 needs --data. [dim]Unset: the target's, else fp32[/dim]",
            rich_help_panel="Precision",
        ),
    ] = None,
    ranges: options.Ranges = None,
    exclude_int8: options.ExcludeInt8 = None,
    data: options.Data = None,
    resize: options.Pixels = None,
    crop: options.Pixels = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    layout: options.Layout = None,
    keep_onnx: Annotated[
        Path | None,
        typer.Option(
            "--keep-onnx",
            metavar="FILE",
            help="Write the ONNX too that the engine was built from, casts, pairs and all.",
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Build a network's engine on a device, run it there, and compare its outputs with the network's."""
    shapes = options.parse_shapes(shape)
    fields = options.preprocessing_fields(resize, crop, scale, mean, std, layout)
    if precision is not None and precision not in PRECISIONS:
        raise BadInput(f"--precision {precision!r} is none of {', '.join(PRECISIONS)}")
    from calibration.preprocessing import Preprocessing
    from pipeline.build import build
    from pipeline.recipe import make_calibration

    with progress() as on_progress:
        result = build(
            model, output, shapes=shapes, target=target, precision=precision, data=data,
            preprocessing=None if fields is None else Preprocessing(**fields),
            calibration=make_calibration(ranges, exclude_int8), keep_onnx=keep_onnx, seed=seed, on_progress=on_progress,
            tell=on_progress.line,
        )  # fmt: skip
    if json:
        print_json(result)
    else:
        from pipeline.cli.tables import print_build

        print_build(result)
