"""`cutback check` and `cutback report`: what a bundle says."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that compress wrote.")]


def check_command(
    bundle: Bundle,
    max_latency: Annotated[
        str | None, typer.Option("--max-latency", metavar="8ms", help="Against the interval's upper end.")
    ] = None,
    min_speedup: Annotated[
        str | None, typer.Option("--min-speedup", metavar="1.5", help="Against the interval's lower end.")
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", metavar="1.0", help="Points of accuracy that may be lost.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Gates for continuous integration: status 1 when a file was changed or a measured number is not good enough."""
    from pipeline.check import check
    from pipeline.goal import parse_duration

    result = check(
        bundle,
        max_latency_ns=None if max_latency is None else parse_duration(max_latency),
        min_speedup=None if min_speedup is None else options.parse_factor(min_speedup, "--min-speedup"),
        max_drop=max_drop,
    )
    if json:
        print_json(result)
    else:
        from pipeline.cli.tables import print_check

        print_check(result)
    if result["failures"]:
        raise typer.Exit(1)


def report_command(
    bundle: Bundle,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to write; else into the bundle.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Write a bundle's report anew, as HTML and Markdown, from its report.json."""
    from pipeline.check import read_json

    report = read_json(bundle, "report.json")
    from pipeline.report import write_report

    written = write_report(report, output or bundle)
    if json:
        print_json([str(path) for path in written])
    else:
        for path in written:
            typer.echo(str(path))
