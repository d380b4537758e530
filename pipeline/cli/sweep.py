"""`cutback sweep`: one profile, many budgets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress
from targets.errors import BadInput


def sweep_command(
    model: options.Model,
    budgets: Annotated[
        str | None,
        typer.Option(
            "--budgets",
            metavar="0.8x,0.5x,4ms",
            help="Latencies, or shares of the uncut network's, joined by commas. [dim]Unset: 0.9x to 0.1x[/dim]",
        ),
    ] = None,
    target: options.TargetName = "local",
    shape: options.Shapes = None,
    data: options.Data = None,
    validate: Annotated[
        str | None,
        typer.Option(
            "--validate",
            metavar="V",
            help="Samples to measure accuracy before recovery with.",
            rich_help_panel="Samples",
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="top1, top5, agreement, or module:callable.", rich_help_panel="Samples")
    ] = "top1",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write the report page there.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Build every plan and time all in one interleaved run.", rich_help_panel="Measuring"
        ),
    ] = False,
    criterion: options.Criterion = None,
    normalise: options.Normalise = None,
    allocator: Annotated[
        list[str] | None,
        typer.Option(
            "--allocator",
            metavar="NAME",
            help="How widths are chosen; repeat to draw several beside each other. [dim]Unset: exact[/dim]",
            rich_help_panel="Widths",
        ),
    ] = None,
    floor: options.Floor = None,
    no_vanish: options.NoVanish = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    inexact: options.Inexact = None,
    blocks: options.BlocksOption = "auto",
    resize: options.Pixels = None,
    crop: options.Pixels = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    layout: options.Layout = None,
    sessions: options.Sessions = 10,
    quick: options.Quick = False,
    seed: options.Seed = 0,
    db: options.Database = None,
    json: options.Json = False,
) -> None:
    """Solve many latency budgets from one profile: what each keeps, predicted, and measured on request."""
    asked = parse_budgets(budgets)
    shapes, coupled = options.parse_shapes(shape), options.parse_blocks(blocks)
    floors = options.parse_floors(floor)
    fields = options.preprocessing_fields(resize, crop, scale, mean, std, layout)
    from calibration.preprocessing import Preprocessing
    from pipeline.sweep import sweep

    with progress() as on_progress:
        report = sweep(
            model,
            budgets=asked,
            shapes=shapes,
            target=target,
            data=data,
            validation=validate,
            preprocessing=None if fields is None else Preprocessing(**fields),
            metric=metric,
            criterion=criterion,
            normalisation=normalise,
            allocators=tuple(dict.fromkeys(allocator or ("exact",))),
            floor=floors[0],
            floors=floors[1],
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            vanish=not no_vanish,
            inexact=bool(inexact),
            blocks=coupled,
            measure=measure,
            sessions=sessions,
            quick=quick,
            seed=seed,
            db=db,
            output=output,
            on_progress=on_progress,
            tell=on_progress.line,
        )
    if json:
        print_json(report)
    else:
        print_sweep(report, output)


def parse_budgets(text: str | None) -> Sequence[str]:
    """`0.8x, 4ms` as a list; BadInput for anything that no latency goal could be, and for a budget named twice."""
    from pipeline.goal import parse_goal

    budgets = [field.strip() for field in (text or "").split(",") if field.strip()]
    if text is not None and not budgets:
        raise BadInput("--budgets names none. Give latencies or shares, such as 0.8x,0.5x,4ms")
    for budget in budgets:
        try:
            parse_goal(f"latency<={budget}")
        except BadInput as error:
            raise BadInput(f"--budgets: {budget!r} is no budget, such as 0.8x or 4ms ({error})") from error
    if len(set(budgets)) < len(budgets):
        raise BadInput(f"--budgets {text!r} names one twice. Give each once.")
    return budgets


def print_sweep(report: Mapping[str, Any], output: Path | None) -> None:
    from rich.markup import escape

    from pipeline.cli.tables import console, count, interval, number, print_doubts, table
    from pipeline.report.predictions import heldout

    out = console()
    found = report["sweep"]
    columns = {"allocator": "", "budget": "ms", "kept": "%", "predicted": "ms", "measured": "ms", "accuracy": "%"}
    known = {
        name: unit
        for name, unit in columns.items()
        if name not in ("measured", "accuracy")
        or any(point.get(f"{name}_ms") is not None or point.get(name) is not None for point in found["points"])
    }
    rows = []
    for point in found["points"]:
        share = None if point["kept"] is None else 100 * point["kept"]
        cells = {
            "allocator": escape(point["allocator"]),
            "budget": number(point["budget_ms"]),
            "kept": number(share, 3),
            "predicted": f"{number(point['predicted_ms'])} {interval(point['low_ms'], point['high_ms'])}"
            if point["predicted_ms"] is not None
            else f"[yellow]at least {number(point['least_ms'])}[/yellow]",
            "measured": f"{number(point.get('measured_ms'))} "
            f"{interval(point.get('measured_low_ms'), point.get('measured_high_ms'))}",
            "accuracy": number(point.get("accuracy")),
        }
        ends = (count(point["flops"]), count(point["params"]), number(point["gap"], 2))
        rows.append((*(cells[name] for name in known), *ends))
    titles = [f"{name} {unit}".strip() for name, unit in known.items()]
    title = f"What each budget keeps; the uncut network is predicted at {number(found['uncut_ms'])} ms"
    out.print(table(title, (*titles, "flops", "params", "gap"), rows))
    if said := heldout(report):
        out.print(said, soft_wrap=True)
    print_doubts(out, report.get("doubts"))
    if output is not None:
        out.print(f"report  {escape(str(output / 'report.html'))}", soft_wrap=True)
