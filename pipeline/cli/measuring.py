"""`cutback measure`: networks against each other, or one against itself."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress
from targets.errors import BadInput


def measure_command(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A.onnx [B.onnx ...]", help="Networks; A on the first target is compared with the rest."
        ),
    ],
    target: options.TargetNames = None,
    shape: options.Shapes = None,
    sessions: options.Sessions = 10,
    quick: options.Quick = False,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Measure A against itself, built twice: a difference would be a false claim. Status 1 where there are "
            "more of them than chance allows.",
            rich_help_panel="Self-test",
        ),
    ] = False,
    repeat: Annotated[
        int | None,
        typer.Option(
            "--repeat",
            metavar="N",
            min=1,
            help="Self-tests to make, each of sessions of its own. [dim]1[/dim]",
            rich_help_panel="Self-test",
        ),
    ] = None,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Time networks on a device in fresh, interleaved sessions, and say which is faster only when that is certain."""
    shapes = options.parse_shapes(shape)
    targets = target or ["local"]
    if self_test:
        if len(models) != 1:
            raise BadInput(f"--self-test measures one network against itself; {len(models)} were given. Give one.")
        if len(targets) != 1:
            raise BadInput(f"--self-test measures on one target; {len(targets)} were given. Give one.")
        run_self_test(models[0], shapes, targets[0], sessions, quick, repeat or 1, seed, json)
        return
    if repeat is not None:
        raise BadInput("--repeat counts self-tests. Add --self-test, or ask for more --sessions.")
    from pipeline.measure import measure

    with progress() as on_progress:
        result = measure(
            models,
            shapes=shapes,
            target=targets,
            sessions=sessions,
            quick=quick,
            seed=seed,
            on_progress=on_progress,
            tell=on_progress.line,
        )
    if json:
        print_json(result)
    else:
        from pipeline.cli.tables import print_measurements

        print_measurements(result)


def run_self_test(
    model: str,
    shapes: Mapping[str, tuple[int, ...]],
    target: str,
    sessions: int,
    quick: bool,
    repeat: int,
    seed: int,
    json: bool,
) -> None:
    from pipeline.measure import self_test

    with progress() as on_progress:
        result = self_test(
            model,
            shapes=shapes,
            target=target,
            sessions=sessions,
            quick=quick,
            repeat=repeat,
            seed=seed,
            on_progress=on_progress,
            tell=on_progress.line,
        )
    if json:
        print_json(result)
    else:
        print_self_test(result)
    if not result["passed"]:
        raise typer.Exit(1)


def print_self_test(result: Mapping[str, Any]) -> None:
    from rich.markup import escape

    from pipeline.cli.tables import console, interval, number, print_doubts, ratio_text, table

    out = console()
    rows = [
        (str(index), ratio_text({**test, "value": test["ratio"]}), number(test["repeats"]))
        for index, test in enumerate(result["tests"], 1)
    ]
    out.print(
        f"{escape(result['path'])} against itself, {result['sessions']} sessions a side"
        f"{', by the quick protocol' if result['quick'] else ''}",
        soft_wrap=True,
    )
    out.print(table("Self-tests", ("", "ratio, 99 % interval, verdict", "taken again"), rows, left=2))
    rate = interval(100 * result["low"], 100 * result["high"])
    out.print(
        f"{result['claims']} of {result['count']} self-tests claim a difference that is not there: "
        f"{100 * result['claims'] / result['count']:.3g} % {rate}; expected at {result['confidence']:.0%}: "
        f"{number(float(result['expected']))}, chance allows {result['allowed']}",
        soft_wrap=True,
    )
    if not result["passed"]:
        out.print(f"[red]failed[/red] {escape(result['path'])} cannot be compared on this device as it is now")
    for doubt in sorted({doubt for test in result["tests"] for doubt in test["doubts"]}):
        print_doubts(out, [doubt])
