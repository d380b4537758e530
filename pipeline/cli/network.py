"""`cutback inspect` and `cutback prune`: what a graph alone can tell, and a cut without training."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress
from targets.errors import BadInput


def inspect_command(
    model: options.Model,
    shape: options.Shapes = None,
    blocks: options.BlocksOption = "auto",
    json: options.Json = False,
) -> None:
    """Show which channels can be cut together, which cannot be cut and why, and what the network costs."""
    shapes, coupled = options.parse_shapes(shape), options.parse_blocks(blocks)
    from pipeline.inspect import inspect

    found = inspect(model, shapes=shapes, blocks=coupled)
    if json:
        print_json(found)
    else:
        from pipeline.cli.tables import print_inspection

        print_inspection(found)


def prune_command(
    model: options.Model,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.onnx", help="The cut network.")],
    keep: Annotated[
        float | None, typer.Option("--keep", help="Share of every group that stays, above 0 and up to 1.")
    ] = None,
    goal: Annotated[str | None, typer.Option("--goal", metavar="G", help="As for compress, instead of --keep.")] = None,
    target: options.TargetName = "local",
    shape: options.Shapes = None,
    criterion: Annotated[
        str,
        typer.Option("--criterion", metavar="NAME", help="How channels are scored; l1, l2 and random need no data."),
    ] = "l2",
    normalise: options.Normalise = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="PLAN.json", help="Write what is kept, for predict.")
    ] = None,
    masked: Annotated[
        Path | None,
        typer.Option("--masked", metavar="MASKED.onnx", help="Write the uncut network with removed channels zeroed."),
    ] = None,
    absorb: Annotated[
        bool, typer.Option("--absorb", help="Fold what removed channels gave on average into biases.")
    ] = False,
    data: options.Data = None,
    resize: options.Pixels = None,
    crop: options.Pixels = None,
    scale: options.Scale = None,
    mean: options.Mean = None,
    std: options.Std = None,
    layout: options.Layout = None,
    allocator: options.Allocator = "exact",
    floor: options.Floor = None,
    include: options.Include = None,
    exclude: options.Exclude = None,
    inexact: options.Inexact = None,
    blocks: options.BlocksOption = "auto",
    seed: options.Seed = 0,
    db: options.Database = None,
    json: options.Json = False,
) -> None:
    """Cut a network to a share or to a goal, prove the cut, and train nothing."""
    if (keep is None) == (goal is None):
        raise BadInput("prune needs either --keep, such as --keep 0.5, or --goal, such as --goal latency<=0.5x")
    from calibration.preprocessing import Preprocessing
    from pipeline.goal import parse_goal

    wanted = None if goal is None else parse_goal(goal)
    shapes, coupled = options.parse_shapes(shape), options.parse_blocks(blocks)
    floors = options.parse_floors(floor)
    fields = options.preprocessing_fields(resize, crop, scale, mean, std, layout)
    preprocessing = None if fields is None else Preprocessing(**fields)

    from pipeline.prune import prune

    with progress() as on_progress:
        result = prune(
            model,
            output,
            shapes=shapes,
            keep=keep,
            goal=wanted,
            target=target,
            criterion=criterion,
            normalisation=normalise,
            seed=seed,
            plan=plan,
            masked=masked,
            absorb=absorb,
            data=data,
            preprocessing=preprocessing,
            allocator=allocator,
            floor=floors[0],
            floors=floors[1],
            include=tuple(include or ()),
            exclude=tuple(exclude or ()),
            inexact=bool(inexact),
            blocks=coupled,
            db=db,
            on_progress=on_progress,
            tell=on_progress.line,
        )
    if json:
        print_json(result)
    else:
        from pipeline.cli.tables import print_cut

        print_cut(result, output)
