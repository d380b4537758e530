"""The table of commands."""

from collections.abc import Callable
from typing import Annotated

import typer

from pipeline.cli import db, targets
from pipeline.cli.build import build_command
from pipeline.cli.compress import compress_command, run_command
from pipeline.cli.device import predict_command, profile_command
from pipeline.cli.measuring import measure_command
from pipeline.cli.network import inspect_command, prune_command
from pipeline.cli.pack import pack_command
from pipeline.cli.results import check_command, report_command
from pipeline.cli.sweep import sweep_command

COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "compress": (
        compress_command,
        (
            'cutback compress net.onnx --goal "latency<=0.5x" --data train.npz --validate test.npz -o small',
            'cutback compress my.package:network --shape image=1,3,224,224 --goal "latency<=8ms,params<=2M" -o small',
            'cutback compress net.onnx --goal "speedup>=2x" --data images/ --resize 256 --crop 224 -o small',
        ),
    ),
    "run": (run_command, ("cutback run recipe.yaml",)),
    "inspect": (
        inspect_command,
        ("cutback inspect net.onnx", "cutback inspect net.onnx --shape image=1,3,224,224 --json"),
    ),
    "prune": (
        prune_command,
        (
            "cutback prune net.onnx -o half.onnx --keep 0.5 --criterion l2 --plan plan.json --masked masked.onnx",
            'cutback prune net.onnx -o fast.onnx --goal "latency<=0.5x" --target local',
        ),
    ),
    "build": (
        build_command,
        ("cutback build net.onnx -o net-engine", "cutback build net.onnx --target local:threads=2 -o wide --json"),
    ),
    "pack": (
        pack_command,
        ("cutback pack small --for android -o phone", "cutback pack small --for jetson -o to-jetson --json"),
    ),
    "profile": (
        profile_command,
        (
            "cutback profile net.onnx --target local",
            "cutback profile net.onnx --target lab --fleet",
        ),
    ),
    "predict": (predict_command, ("cutback predict net.onnx --plan plan.json --target local --json",)),
    "sweep": (
        sweep_command,
        (
            "cutback sweep net.onnx --budgets 0.8x,0.6x,0.4x -o sweep",
            "cutback sweep net.onnx --data train.npz --validate test.npz --measure -o sweep",
            "cutback sweep net.onnx --allocator exact --allocator uniform --json",
        ),
    ),
    "measure": (
        measure_command,
        (
            "cutback measure net.onnx",
            "cutback measure net.onnx half.onnx --sessions 20 --json",
            "cutback measure net.onnx --target local --target local-openvino",
            "cutback measure net.onnx --self-test --repeat 10 --quick",
        ),
    ),
    "check": (check_command, ("cutback check small --max-latency 8ms --min-speedup 1.5 --max-drop 1.0",)),
    "report": (report_command, ("cutback report small",)),
}

# A command whose name alone does something, and its subcommands.
GROUPS: dict[str, tuple[Callable[..., None], dict[str, Callable[..., None]], dict[str, tuple[str, ...]]]] = {
    "targets": (targets.targets_command, targets.SUBCOMMANDS, targets.EXAMPLES),
    "db": (db.overview_command, db.SUBCOMMANDS, db.EXAMPLES),
}


def examples(lines: tuple[str, ...]) -> str:
    """An epilog: typer keeps what blank lines part on lines of their own."""
    return "\n\n".join(("[bold]Examples[/bold]" if len(lines) > 1 else "[bold]Example[/bold]", *lines))


def show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cutback {version('cutback')}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Cut channels from a trained network until it meets a latency goal, as measured on the device that will run it.

    Exit status: 0 done, 1 a goal or gate was not met, 2 bad input.
    """


def make_app(commands: dict[str, tuple[Callable[..., None], tuple[str, ...]]]) -> typer.Typer:
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=examples((commands["compress"][1][0], commands["measure"][1][0], "cutback compress --help")),
    )
    app.callback()(options)
    for name, (function, lines) in commands.items():
        app.command(name, epilog=examples(lines), no_args_is_help=False)(function)
    for name, (alone, subcommands, lines_of) in GROUPS.items():
        group = typer.Typer(rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]})
        group.callback(invoke_without_command=True, epilog=examples(lines_of[""]))(alone)
        for subcommand, command in subcommands.items():
            group.command(subcommand, epilog=examples(lines_of[subcommand]))(command)
        app.add_typer(group, name=name)
    return app


app = make_app(COMMANDS)
