"""Options that several commands share, and how their text becomes values."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from targets.errors import BadInput

if TYPE_CHECKING:
    from pipeline.graph.labels import Blocks

BLOCKS = ("auto", "inside", "whole")
BORROWABLE = ("stack", "regime", "device")

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="An .onnx file, or package.module:callable giving a torch module.")
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=SIZES",
        help="Bind free dimensions, as in image=1,3,224,224; repeat for more inputs. [dim]Unset batch: 1[/dim]",
    ),
]
TargetName = Annotated[
    str, typer.Option("--target", metavar="T", help="The device; see: cutback targets.", rich_help_panel="Measuring")
]
TargetNames = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="T",
        help="The device and runtime; repeat for more: every network on every target. [dim]local[/dim]",
        rich_help_panel="Measuring",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="PATH",
        help="The profile database: a file or a URL. [dim]Else CUTBACK_DB, else your own[/dim]",
        rich_help_panel="Measuring",
    ),
]
Borrow = Annotated[
    list[str] | None,
    typer.Option(
        "--borrow",
        metavar="stack|regime|device",
        help="Where our own times are missing, use those that differ in this, and say what differs; repeat for more.",
        rich_help_panel="Measuring",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.", rich_help_panel="Measuring")]
Sessions = Annotated[
    int, typer.Option("--sessions", min=2, help="Fresh sessions each network is timed in.", rich_help_panel="Measuring")
]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="Short timings: wider intervals, for trying things out.", rich_help_panel="Measuring"),
]
Criterion = Annotated[
    str | None,
    typer.Option("--criterion", metavar="NAME", help="How channels are scored.", rich_help_panel="Importance"),
]
Normalise = Annotated[
    str | None,
    typer.Option(
        "--normalise",
        metavar="NAME",
        help="How scores of different groups are made comparable; else as the criterion wants it.",
        rich_help_panel="Importance",
    ),
]
Allocator = Annotated[
    str,
    typer.Option(
        "--allocator",
        metavar="NAME",
        help="How widths are chosen: exact, uniform, threshold, knapsack, sensitivity or netadapt.",
        rich_help_panel="Widths",
    ),
]
Floor = Annotated[
    list[str] | None,
    typer.Option(
        "--floor",
        metavar="[PATTERN=]SHARE",
        help="Share of its channels that every group keeps at least, or those that match: 0.2, 'layer1*=0.5'; "
        "repeat for more. [dim]Unset: 0.1[/dim]",
        rich_help_panel="Widths",
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="PATTERN",
        help="Cut only these groups (* and ?); repeat for more.",
        rich_help_panel="Widths",
    ),
]
Inexact = Annotated[
    bool | None,
    typer.Option(
        "--inexact/--exact",
        help="Cut what a norm or softmax runs over, or leave it. [dim]Else only where training follows[/dim]",
        rich_help_panel="Widths",
        show_default=False,
    ),
]
BlocksOption = Annotated[
    str,
    typer.Option(
        "--blocks",
        metavar="auto|inside|whole",
        help="Convolution groups and heads: cut inside each, or drop whole ones. [dim]auto: the finer[/dim]",
        rich_help_panel="Widths",
    ),
]
NoVanish = Annotated[
    bool, typer.Option("--no-vanish", help="Leave something of every residual branch.", rich_help_panel="Widths")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="Groups to leave alone (* and ?); repeat for more.",
        rich_help_panel="Widths",
    ),
]
Precision = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        metavar="fp32|fp16|bf16|int8",
        help="Engines to build beside fp32; repeat for more. [dim]Unset: the target's, else what the runtime has "
        "kernels for, int8 where there is data[/dim]",
        rich_help_panel="Precision",
    ),
]
Ranges = Annotated[
    str | None,
    typer.Option(
        "--ranges",
        metavar="HOW",
        help="How int8 ranges are found: entropy, min-max, percentile or mse.",
        rich_help_panel="Precision",
    ),
]
ExcludeInt8 = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-int8",
        metavar="PATTERN",
        help="Nodes that stay in floating point (* and ?); repeat for more.",
        rich_help_panel="Precision",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="D",
        help="Samples to learn from: .npz, image folder, or module:callable.",
        rich_help_panel="Samples",
    ),
]
Pixels = Annotated[
    str | None, typer.Option(metavar="PX", help="Image folders: pixels, or HEIGHTxWIDTH.", rich_help_panel="Samples")
]
Scale = Annotated[
    float | None,
    typer.Option("--scale", help="What a pixel is divided by before mean and std.", rich_help_panel="Samples"),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", metavar="M,M,M", help="Subtracted from scaled pixels.", rich_help_panel="Samples"),
]
Std = Annotated[
    str | None, typer.Option("--std", metavar="S,S,S", help="What they are then divided by.", rich_help_panel="Samples")
]
Layout = Annotated[
    str | None,
    typer.Option(
        "--layout", metavar="NCHW|NHWC", help="Where the network has its channels.", rich_help_panel="Samples"
    ),
]


FLOOR = 0.1  # where none is given


def parse_floors(texts: Sequence[str] | None) -> tuple[float, tuple[tuple[str, float], ...]]:
    """(share for all, (pattern, share) for some), from `0.2` and `layer1*=0.5`; BadInput for anything else."""
    floor, floors = FLOOR, []
    for text in texts or ():
        pattern, equals, share = text.rpartition("=")
        try:
            value = float(share)
        except ValueError as error:
            raise BadInput(
                f"--floor {text!r} is no share, such as 0.2, and no PATTERN=SHARE, such as 'layer1*=0.5'"
            ) from error
        if equals and not pattern:
            raise BadInput(f"--floor {text!r} names no groups before the =. They are listed by: cutback inspect MODEL")
        if equals:
            floors.append((pattern, value))
        else:
            floor = value
    return floor, tuple(floors)


def parse_blocks(text: str) -> "Blocks":
    if text not in BLOCKS:
        raise BadInput(f"--blocks {text!r} is none of {', '.join(BLOCKS)}")
    return cast("Blocks", text)


def parse_borrow(texts: Sequence[str] | None) -> tuple[str, ...]:
    for text in texts or ():
        if text not in BORROWABLE:
            raise BadInput(f"--borrow {text!r} is none of {', '.join(BORROWABLE)}")
    return tuple(texts or ())


def parse_shapes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Input name -> shape, from `NAME=1,3,224,224`; BadInput for anything else, and for a name given twice."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        name, equals, sizes = text.rpartition("=")
        fields = [field.strip() for field in sizes.split(",")]
        if not (
            equals and name.strip() and all(field.isascii() and field.isdigit() and int(field) for field in fields)
        ):
            raise BadInput(
                f"--shape {text!r} is not NAME=SIZE,SIZE,... with sizes of 1 or more, such as image=1,3,224,224"
            )
        if name.strip() in shapes:
            raise BadInput(f"--shape names {name.strip()!r} twice. Give each input one shape.")
        shapes[name.strip()] = tuple(int(field) for field in fields)
    return shapes


def parse_numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    """`0.485,0.456,0.406` as floats."""
    if text is None:
        return None
    try:
        return tuple(float(field) for field in text.split(","))
    except ValueError as error:
        raise BadInput(
            f"{option} {text!r} is not a number or several joined by commas, such as 0.485,0.456,0.406"
        ) from error


def parse_pixels(text: str | None, option: str) -> int | tuple[int, int] | None:
    """`256` or `240x320` (height, width)."""
    if text is None:
        return None
    fields = text.lower().split("x")
    if len(fields) not in (1, 2) or not all(field.isascii() and field.isdigit() and int(field) for field in fields):
        raise BadInput(f"{option} {text!r} is not a number of pixels or HEIGHTxWIDTH, such as 224 or 240x320")
    return int(fields[0]) if len(fields) == 1 else (int(fields[0]), int(fields[1]))


def preprocessing_fields(
    resize: str | None, crop: str | None, scale: float | None, mean: str | None, std: str | None, layout: str | None
) -> dict[str, Any] | None:
    """The fields of Preprocessing that were given; None where none was."""
    fields = {
        "resize": parse_pixels(resize, "--resize"),
        "crop": parse_pixels(crop, "--crop"),
        "scale": scale,
        "mean": parse_numbers(mean, "--mean"),
        "std": parse_numbers(std, "--std"),
        "layout": layout,
    }
    return {name: value for name, value in fields.items() if value is not None} or None


def parse_factor(text: str, option: str) -> float:
    """`1.5` or `1.5x`, above zero."""
    try:
        factor = float(text.lower().removesuffix("x"))
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise BadInput(f"{option} {text!r} is not a factor above zero, such as 1.5")
    return factor
