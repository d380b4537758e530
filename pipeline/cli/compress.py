"""`cutback compress` and `cutback run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

# A recipe's field -> what a user of the command line wrote, for error messages.
NAMES = {
    "model": "MODEL",
    "output": "--output",
    "shapes": "--shape",
    "normalisation": "--normalise",
    "regularisation.cost": "--regularise",
    "regularisation.strength": "--strength",
    "max_drop": "--max-drop",
    "samples_for_scoring": "--samples",
    "floors": "--floor",
    "rounds": "--rounds",
    "allow_vanish": "--no-vanish",
    "include_inexact": "--inexact",
    "batchnorm": "--batchnorm",
    "precisions": "--precision",
    "calibration.ranges": "--ranges",
    "calibration.exclude": "--exclude-int8",
    "recovery.learning_rate": "--lr",
    "recovery.batch_size": "--batch-size",
    "recovery.augmentation": "--augment",
    "recovery.epochs": "--epochs",
    "recovery.minutes": "--minutes",
    **{
        name: f"--{name}"
        for name in ("goal", "target", "data", "validate", "metric", "criterion", "allocator", "floor")
    },
    **{name: f"--{name}" for name in ("include", "exclude", "blocks", "absorb", "db", "seed", "sessions", "quick")},
}


def compress_command(
    model: options.Model,
    goal: Annotated[
        str,
        typer.Option(
            "--goal",
            metavar="G",
            help="latency<=8ms, latency<=0.5x, speedup>=2x, flops<=0.5x, params<=2M; joined by commas.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The bundle's folder.")],
    target: options.TargetName = "local",
    shape: options.Shapes = None,
    data: options.Data = None,
    validate: Annotated[
        str | None,
        typer.Option(
            "--validate",
            metavar="V",
            help="Samples to measure accuracy with; never trained on.",
            rich_help_panel="Samples",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="top1, top5, agreement, or module:callable.", rich_help_panel="Samples"),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", help="Status 1 when more points of accuracy are lost.", rich_help_panel="Samples"),
    ] = None,
    example_inputs: Annotated[
        str | None,
        typer.Option("--example-inputs", metavar="MODULE:CALLABLE", help="What a torch module is traced with."),
    ] = None,
    criterion: options.Criterion = None,
    normalise: options.Normalise = None,
    regularise: Annotated[
        str | None,
        typer.Option(
            "--regularise",
            metavar="COST",
            help="flops, params, memory, bytes or latency, taken off the scores.",
            rich_help_panel="Importance",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="How much of the cost is taken off.", rich_help_panel="Importance"),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", help="How many samples channels are scored with.", rich_help_panel="Importance"),
    ] = None,
    allocator: options.Allocator = "exact",
    floor: options.Floor = None,
    no_vanish: options.NoVanish = False,
    inexact: options.Inexact = None,
    blocks: options.BlocksOption = "auto",
    include: options.Include = None,
    exclude: options.Exclude = None,
    absorb: Annotated[
        bool,
        typer.Option(
            "--absorb", help="Fold what removed channels gave on average into biases.", rich_help_panel="Widths"
        ),
    ] = False,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds",
            metavar="N",
            help="Approach the goal in N rounds of score, cut and recover; the epochs and minutes are for all of them.",
            rich_help_panel="Recovery",
        ),
    ] = 1,
    no_recovery: Annotated[
        bool, typer.Option("--no-recovery", help="Do not train after the cut.", rich_help_panel="Recovery")
    ] = False,
    batchnorm: Annotated[
        str,
        typer.Option(
            "--batchnorm",
            metavar="HOW",
            help="Batch-norm that the exporter folded: put-back before training and folded again, as-given, or auto: "
            "put back where the network looks as if it had it.",
            rich_help_panel="Recovery",
        ),
    ] = "auto",
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Of training after the cut.", rich_help_panel="Recovery")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Stop training after this long.", rich_help_panel="Recovery")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Of training.", rich_help_panel="Recovery")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="The learning rate that training starts with.", rich_help_panel="Recovery"),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            "--augment",
            metavar="flip,crop:4",
            help="flip and crop:PIXELS, joined by commas.",
            rich_help_panel="Recovery",
        ),
    ] = None,
    precision: options.Precision = None,
    ranges: options.Ranges = None,
    exclude_int8: options.ExcludeInt8 = None,
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
    """Cut, recover, build, measure: from a trained network and a goal to a bundle with a proven engine and its report.

    Killed or interrupted, the same command goes on from where it was.
    """
    from pipeline.recipe import make_recipe

    floors = options.parse_floors(floor)
    recovery = given(
        epochs=epochs,
        minutes=minutes,
        batch_size=batch_size,
        learning_rate=lr,
        augmentation=listed(augment),
        seed=seed or None,
    )
    fields = given(
        model=model, goal=goal, output=output, target=target, shapes=options.parse_shapes(shape), data=data,
        validate=validate, metric=metric, max_drop=max_drop, example_inputs=example_inputs, criterion=criterion,
        normalisation=normalise, regularisation=given(cost=regularise, strength=strength) or None,
        samples_for_scoring=samples, allocator=allocator, floor=floors[0], floors=floors[1], rounds=rounds,
        allow_vanish=not no_vanish,
        include_inexact=inexact, blocks=options.parse_blocks(blocks), include=include, exclude=exclude, absorb=absorb,
        batchnorm=batchnorm,
        precisions=precision, calibration=given(ranges=ranges, exclude=exclude_int8) or None,
        preprocessing=options.preprocessing_fields(resize, crop, scale, mean, std, layout),
        sessions=sessions, quick=quick, seed=seed, db=db,
    )  # fmt: skip
    if no_recovery:
        fields["recovery"] = None
    elif recovery and (data is not None or recovery.keys() - {"seed"}):
        fields["recovery"] = recovery
    finish(make_recipe(fields, base=Path.cwd(), source="command line", names=NAMES), json)


def run_command(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file with the fields of compress.")],
    json: options.Json = False,
) -> None:
    """Compress as a recipe says; the paths in it are relative to it. Interrupted, it goes on from where it was."""
    from pipeline.recipe import load_recipe

    finish(load_recipe(recipe), json)


def finish(recipe: "Recipe", json: bool) -> None:
    from pipeline.compress import compress

    with progress() as on_progress:
        report = compress(recipe, on_progress=on_progress, on_finding=on_progress.line)
    if json:
        print_json(report)
    else:
        from pipeline.cli.tables import print_compression

        print_compression(report, recipe.output)
    if not report["met"] or report.get("failures"):
        raise typer.Exit(1)


def given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def listed(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(field.strip() for field in text.split(",") if field.strip())
