"""`cutback pack`: a bundle for a device that is not connected."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress


def pack_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that compress wrote.")],
    kind: Annotated[str, typer.Option("--for", metavar="android|ios|jetson", help="The kind of device.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.")],
    json: options.Json = False,
) -> None:
    """Make a bundle ready for a phone or a Jetson: models, golden data, hashes, how to build, run and time it there."""
    from pipeline.pack import pack

    with progress() as on_progress:
        result = pack(bundle, kind, output, tell=on_progress.line)
    if json:
        print_json(result)
    else:
        from pipeline.cli.tables import print_pack

        print_pack(result)
