"""`cutback db`: what the profile database holds, and how it travels."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli import options
from pipeline.cli.output import print_json
from targets.errors import BadInput

if TYPE_CHECKING:
    from targets.profiles.families import Family
    from targets.profiles.search import Wanted

EXAMPLES = {
    "": ("cutback db", "cutback db kernels --op Conv", "cutback db --db team.sqlite --json"),
    "list": ("cutback db list", "cutback db list --db postgresql://me@host/profiles --json"),
    "kernels": ("cutback db kernels --op Conv", "cutback db kernels --stack 1.31 --limit 0 --json"),
    "stairs": ("cutback db stairs --op Conv", "cutback db stairs 1f0c33aa -o stairs.svg"),
    "export": ("cutback db export profiles.jsonl.gz", "cutback db export epyc.jsonl --device EPYC --stack 1.31"),
    "merge": ("cutback db merge theirs.jsonl.gz", "cutback db merge a.jsonl b.jsonl --db team.sqlite"),
    "check": ("cutback db check",),
}

Device = Annotated[str, typer.Option("--device", metavar="WORD", help="Only of devices whose description says this.")]
Stack = Annotated[str, typer.Option("--stack", metavar="WORD", help="Only of stacks whose description says this.")]
Operator = Annotated[str, typer.Option("--op", metavar="NAME", help="Only kernels with this operator, such as Conv.")]
Place = Annotated[
    str, typer.Option("--place", metavar="NAME", help='Only what was timed so, such as "in network" or staircase.')
]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Lines to show; 0: all.")]


@dataclass(frozen=True)
class Given:
    """What stood before the subcommand's name."""

    db: str | None
    json: bool


def overview_command(context: typer.Context, db: options.Database = None, json: options.Json = False) -> None:
    """Say what the profile database holds: devices, stacks, kernels, and how old it is."""
    context.obj = Given(db, json)
    if context.invoked_subcommand is None:
        show_overview(db, json)


def list_command(context: typer.Context, db: options.Database = None, json: options.Json = False) -> None:
    """The same as cutback db alone: one line for each device, stack and regime, newest first."""
    show_overview(db or context.obj.db, json or context.obj.json)


def show_overview(db: str | None, json: bool) -> None:
    from targets.profiles.store import ProfileStore

    found = [asdict(line) for line in ProfileStore(db).summary()]
    if json:
        print_json(found)
    else:
        from pipeline.cli.db_tables import print_coverage

        print_coverage(found)


def kernels_command(
    context: typer.Context,
    op: Operator = "",
    device: Device = "",
    stack: Stack = "",
    place: Place = "",
    limit: Limit = 40,
    db: options.Database = None,
    json: options.Json = False,
) -> None:
    """Kernels that were timed last: how often, how long ago, and the best and the median of their times."""
    from targets.profiles.database import Database
    from targets.profiles.overview import kernels
    from targets.profiles.search import Wanted

    wanted = Wanted(device=device, stack=stack, op=op, place=place)
    found, total = kernels(Database(db or context.obj.db), wanted, limit or None)
    if json or context.obj.json:
        print_json({"total": total, "kernels": [{**asdict(line), "digest": line.key.digest} for line in found]})
    else:
        from pipeline.cli.db_tables import print_kernels

        print_kernels(found, total)


def stairs_command(
    context: typer.Context,
    family: Annotated[
        str, typer.Argument(metavar="[FAMILY]", help="One of the list, or the beginning of its id.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Draw it into a .png, .svg or .pdf too.")
    ] = None,
    op: Operator = "",
    device: Device = "",
    stack: Stack = "",
    place: Place = "",
    limit: Limit = 40,
    db: options.Database = None,
    json: options.Json = False,
) -> None:
    """Plot a staircase: a kernel's time over its width, with the widths worth having. Without FAMILY: list them."""
    from targets.profiles.families import find_families, steps
    from targets.profiles.search import Wanted
    from targets.profiles.store import ProfileStore

    wanted = Wanted(device=device, stack=stack, op=op, place=place)
    store = ProfileStore(db or context.obj.db)
    found = find_families(store.database, wanted)
    chosen = one_family(found, family, wanted) if family or output else None
    if chosen is None:
        shown = found[: limit or None]
        if json or context.obj.json:
            print_json({"total": len(found), "families": [described(each) for each in shown]})
        else:
            from pipeline.cli.db_tables import print_families

            print_families(shown, len(found))
        return
    from pipeline.cli.db_stairs import draw, edges_of, print_staircase, times_of

    rows = store.find(chosen.keys.values())
    stairs = steps(chosen, rows, times_of(rows))
    edges = edges_of(stairs)
    if output:
        draw(chosen, stairs, edges, output)
    if json or context.obj.json:
        marked = [
            {"width": step.width, "us": step.time_ns / 1e3, "rows": step.rows, "edge": step.width in edges}
            for step in stairs
        ]
        print_json({**described(chosen), "steps": marked, "written": str(output) if output else None})
    else:
        print_staircase(chosen, stairs, edges)
        if output:
            typer.echo(f"written {output}")


def one_family(found: "list[Family]", family: str, wanted: "Wanted") -> "Family":
    """The one that is meant; `BadInput` where there is none or more than one."""
    meant = [each for each in found if each.id.startswith(family)]
    if len(meant) == 1:
        return meant[0]
    if not meant:
        raise BadInput(f"There is no staircase {family or 'there'}. See: cutback db stairs")
    ids = ", ".join(each.id for each in meant[:6]) + (", ..." if len(meant) > 6 else "")
    raise BadInput(f"{len(meant)} staircases are meant ({ids}). Name one; see: cutback db stairs")


def described(family: "Family") -> dict[str, Any]:
    key = family.example
    return {
        "id": family.id, "op": family.op, "varies": family.varies, "widths": list(family.keys),
        "device": key.device, "stack": key.stack, "regime": key.regime, "method": key.method,
    }  # fmt: skip


def export_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to write; compressed where it ends in .gz.")],
    device: Device = "",
    stack: Stack = "",
    db: options.Database = None,
    json: options.Json = False,
) -> None:
    """Write the database, or a part of it, to a file that another database can merge."""
    from targets.profiles.database import Database
    from targets.profiles.export import export
    from targets.profiles.search import Wanted

    counts = export(Database(db or context.obj.db), file, Wanted(device=device, stack=stack))
    if json or context.obj.json:
        print_json({"written": str(file), **asdict(counts)})
    else:
        typer.echo(f"written {file}: {counts.rows:,} rows of {counts.keys:,} kernels from {counts.sessions:,} sessions")


def merge_command(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="What cutback db export wrote.")],
    db: options.Database = None,
    json: options.Json = False,
) -> None:
    """Add what exported files hold and the database does not; all of a file or, where it is damaged, nothing of it."""
    from targets.profiles.database import Database
    from targets.profiles.merge import merge

    database = Database(db or context.obj.db)
    done: list[dict[str, Any]] = []
    for file in files:
        try:
            done.append({"path": str(file), **asdict(merge(database, file))})
        except BadInput as failure:
            before = ", ".join(each["path"] for each in done)
            raise BadInput(f"{failure} Before it, {before} was merged." if done else str(failure)) from failure
    if json or context.obj.json:
        print_json(done)
    else:
        from pipeline.cli.db_tables import print_merged

        print_merged(done)


def check_command(context: typer.Context, db: options.Database = None, json: options.Json = False) -> None:
    """Check that the database is sound: every reference, every digest, every row. Status 1 where it is not."""
    from targets.profiles.database import Database
    from targets.profiles.integrity import check

    counts, problems = check(Database(db or context.obj.db))
    if json or context.obj.json:
        print_json({**asdict(counts), "problems": problems})
    else:
        for problem in problems:
            typer.echo(f"failed: {problem}")
        if not problems:
            typer.echo(f"sound: {counts.rows:,} rows of {counts.keys:,} kernels from {counts.sessions:,} sessions")
    if problems:
        raise typer.Exit(1)


SUBCOMMANDS: dict[str, Callable[..., None]] = {
    "list": list_command,
    "kernels": kernels_command,
    "stairs": stairs_command,
    "export": export_command,
    "merge": merge_command,
    "check": check_command,
}
