"""`cutback targets`: the devices that --target may name, how they get their names, and how they are."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from pipeline.cli.progress import progress
from targets.errors import BadInput

EXAMPLES = {
    "": (
        "cutback targets",
        "cutback targets add jetson-lab-3 --transport ssh --address me@jetson-lab-3 --runtime tensorrt",
        "cutback targets doctor jetson-lab-3",
    ),
    "list": ("cutback targets list", "cutback targets list --json"),
    "add": (
        "cutback targets add pi --transport ssh --address me@raspberrypi --python '~/cutback/bin/python' --threads 4",
        "cutback targets add jetson --transport ssh --address jetson --runtime tensorrt --option dla=0 --project",
        "cutback targets add pi --transport ssh --address me@raspberrypi-5 --replace",
    ),
    "remove": ("cutback targets remove pi", "cutback targets remove pi --user"),
    "doctor": ("cutback targets doctor local", "cutback targets doctor pi --no-self-test --json"),
    "clean": ("cutback targets clean pi",),
}

Name = Annotated[str, typer.Argument(metavar="NAME", help="As the list has it.")]
Place = Annotated[
    bool | None,
    typer.Option(
        "--user/--project",
        help="In your own targets.toml, or in the project's: the nearest upwards from here, or the one that "
        "CUTBACK_TARGETS names.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Given:
    """What stood before the subcommand's name."""

    json: bool


def targets_command(context: typer.Context, json: options.Json = False) -> None:
    """List the devices that --target may name: those built in, the project's, and your own."""
    context.obj = Given(json)
    if context.invoked_subcommand is None:
        show_targets(json)


def list_command(context: typer.Context, json: options.Json = False) -> None:
    """The same as cutback targets alone."""
    show_targets(json or context.obj.json)


def show_targets(json: bool) -> None:
    from targets.target import BUILT_IN, yours

    known = [*((target, "built in") for target in BUILT_IN), *yours()]
    found = [{**asdict(target), "from": place} for target, place in known]
    if json:
        print_json(found)
    else:
        from pipeline.cli.targets_tables import print_targets

        print_targets(found)


def add_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, - and _.")],
    transport: Annotated[str | None, typer.Option(metavar="T", help="By which way: local, ssh, adb or dask.")] = None,
    address: Annotated[
        str | None, typer.Option(metavar="A", help="Where it is found, such as me@board, or a host of your ssh config.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The transport's own settings, in place of your ~/.ssh/config.")
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Of a fleet: the kind of its devices.")] = None,
    runtime: Annotated[str | None, typer.Option(metavar="R", help="What runs models there.")] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="fp32|fp16|bf16|int8", help="What --precision is where nobody gives it.")
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Cores that a model gets.")] = None,
    cores: Annotated[
        str | None,
        typer.Option(metavar="big|little|prime", help="Of this kind, where they differ; without it, the fastest."),
    ] = None,
    regime: Annotated[
        str | None, typer.Option(metavar="as-shipped|locked", help="Whether you have locked its clocks.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The interpreter there that has the runtime, in quotes where it has a ~."),
    ] = None,
    binary: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Of a phone without Python: the runtime's own benchmark, here or there."),
    ] = None,
    folder: Annotated[
        str | None, typer.Option(metavar="PATH", help="Where cutback keeps its files there; else its user's cache.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Of the runtime; repeat for more.")
    ] = None,
    user: Place = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a target of that name.")] = False,
    json: options.Json = False,
) -> None:
    """Give a device a name. It is written to your own targets.toml, or with --project to the project's."""
    from targets import registry, registry_edit

    path = user_path() if user in (True, None) else project_path()
    fields = {
        "transport": transport, "address": address, "config": written_config(config, path), "tag": tag,
        "runtime": runtime, "precision": precision, "threads": threads, "cores": cores, "regime": regime,
        "python": python, "binary": binary, "folder": folder, "options": parse_options(option) or None,
    }  # fmt: skip
    first = registry.project_file()
    shadowed = first is not None and first != path and name in registry.read(first)
    given = {key: value for key, value in fields.items() if value is not None}
    entry = registry_edit.add(path, name, given, replace=replace)
    if json or context.obj.json:
        print_json({"written": str(path), "in_force": not shadowed, "name": name, **entry.fields})
        return
    typer.echo(f"written {name} to {path}")
    if shadowed:
        typer.echo(f"but {first} has a target {name} too, and comes first here")
    typer.echo(f"see whether it works: cutback targets doctor {name}")


def remove_command(context: typer.Context, name: Name, user: Place = None, json: options.Json = False) -> None:
    """Forget a device's name, in the file that has it. What is kept on the device stays: see cutback targets clean."""
    from targets import registry, registry_edit
    from targets.target_fields import LOCAL

    if name in LOCAL:
        raise BadInput(f"{name} is built in and cannot be removed.")
    holding = [path for path in asked_paths(user) if path.exists() and name in registry.read(path)]
    if not holding:
        raise BadInput(f"No file names a target {name!r}. See: cutback targets")
    if len(holding) > 1:
        raise BadInput(f"{' and '.join(map(str, holding))} both have a target {name!r}. Give --user or --project.")
    registry_edit.remove(holding[0], name)
    if json or context.obj.json:
        print_json({"removed": name, "from": str(holding[0])})
    else:
        typer.echo(f"removed {name} from {holding[0]}")


def doctor_command(
    context: typer.Context,
    name: Name,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test/--no-self-test", help="Measure a small network against itself: is a difference claimed?"
        ),
    ] = True,
    sessions: Annotated[int, typer.Option("--sessions", min=2, help="Of each side of the self-test.")] = 5,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Say what a device is, how it is just now, what it lacks and how to install that, and whether it can be trusted.

    Status 1 where something is missing, or where the self-test claims a difference between a network and itself.
    """
    from pipeline.doctor import doctor

    with progress() as on_progress:
        found = doctor(
            name, self_test=self_test, sessions=sessions, seed=seed, on_progress=on_progress, tell=on_progress.line
        )
    if json or context.obj.json:
        print_json(found)
    else:
        from pipeline.cli.targets_tables import print_doctor

        print_doctor(found)
    if not found["passed"]:
        raise typer.Exit(1)


def clean_command(context: typer.Context, name: Name, json: options.Json = False) -> None:
    """Remove what cutback keeps on a device: models that were sent, and agents of older versions."""
    from targets.target import find_target
    from targets.upkeep import clean

    done = clean(find_target(name))
    if json or context.obj.json:
        print_json({"target": name, "keeps": done is not None, **(asdict(done) if done else {})})
    elif done is None:
        typer.echo(f"nothing is kept on {name}: its files are this machine's")
    else:
        typer.echo(f"removed {in_bytes(done.removed)} from {done.root} on {name}; {in_bytes(done.left)} are left")


def user_path() -> Path:
    from targets.registry import user_file

    return user_file()


def project_path() -> Path:
    """The project's file, else where one would be: here."""
    from targets.registry import FILE, project_file

    return project_file() or Path.cwd() / FILE


def asked_paths(user: bool | None) -> Sequence[Path]:
    """Of --user, --project, or neither: the files where a name may stand, without one twice."""
    both = {True: (user_path,), False: (project_path,), None: (project_path, user_path)}[user]
    return tuple(dict.fromkeys(find() for find in both))


def written_config(config: Path | None, path: Path) -> str | None:
    """As it stands in the file at `path`: relative to it where it lies beside or below, so that both may travel."""
    if config is None or str(config).startswith("~"):
        return None if config is None else str(config)
    whole = config.absolute()
    return str(whole.relative_to(path.parent) if whole.is_relative_to(path.parent) else whole)


def parse_options(texts: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and key and value):
            raise BadInput(f"--option {text!r} is no NAME=VALUE, such as provider=cuda")
        found[key] = value
    return found


def in_bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


SUBCOMMANDS: dict[str, Callable[..., None]] = {
    "list": list_command,
    "add": add_command,
    "remove": remove_command,
    "doctor": doctor_command,
    "clean": clean_command,
}
