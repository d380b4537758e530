"""`cutback build`: an engine of a network as it is."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress


def build_command(
    model: options.Model,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="ENGINE", help="The engine's file; the runtime's suffix is added."),
    ],
    target: options.TargetName = "local",
    shape: options.Shapes = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Build a network's engine on a device, run it there, and compare its outputs with the network's."""
    shapes = options.parse_shapes(shape)
    from pipeline.build import build

    with progress() as on_progress:
        result = build(model, output, shapes=shapes, target=target, seed=seed, on_progress=on_progress)
    if json:
        print_json(result)
    else:
        from pipeline.cli.tables import print_build

        print_build(result)
