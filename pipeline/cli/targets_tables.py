"""Targets, and what a doctor found, for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape

from pipeline.cli.tables import QUICK, console, interval, number, print_doubts, table
from pipeline.cli.targets import in_bytes
from targets.target import Target

SHOWN = ("name", "transport", "address", "runtime", "threads")  # in columns of their own
ELSE = ("tag", "regime", "precision", "python", "folder", "config")  # where they are not as every target has them


def print_targets(found: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            *(escape(str(target[column])) for column in SHOWN),
            escape("\n".join(f"{name}={value}" for name, value in further(target))),
            escape(str(target["from"])),
        )
        for target in found
    ]
    made = table("Targets", (*SHOWN, "else", "from"), rows, left=len(SHOWN) + 2)
    made.columns[0].no_wrap = True  # to be copied
    console().print(made)


def further(target: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    usual = Target("")
    yield from ((name, target[name]) for name in ELSE if target[name] != getattr(usual, name))
    yield from target["options"].items()


def print_doctor(found: Mapping[str, Any]) -> None:
    out = console()
    rows = [*rows_of_agent(found["agent"] or {}), *rows_of_device(found["device"] or {}), *rows_of_conditions(found)]
    if rows:
        out.print(table(str(found["target"]), ("", ""), [(escape(name), escape(text)) for name, text in rows], left=2))
    if (found["device"] or {}).get("emulated"):
        out.print("[yellow]emulated[/yellow]  it computes right, and its timings are useless: none of them is kept")
    if found["difference"] is not None:
        out.print(f"a small network gives what it should there (within {number(found['difference'], 2)}, relative)")
    if found["self_test"]:
        test = found["self_test"]
        ratio = f"{number(test['ratio'], 3, 'x')} {interval(test['low'], test['high'])}{QUICK if test['quick'] else ''}"
        out.print(f"the same network against itself: {ratio}")
    print_doubts(out, [*found["doubts"], *(found["self_test"] or {}).get("doubts", ())])
    for problem in found["problems"]:
        out.print(f"[red]problem[/red]  {escape(problem)}", soft_wrap=True)
    mark = "[green]ready[/green]" if found["passed"] else "[red]not ready[/red]"
    out.print(f"{mark}  {escape(found['verdict'])}", soft_wrap=True)


def rows_of_agent(agent: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not agent:
        return
    yield "agent", f"protocol {agent['protocol']}" + (f", {agent['sha256'][:12]}" if agent["sha256"] else "")
    yield "interpreter", f"{agent['python']} ({agent['executable']})"
    yield "folder", f"{agent['folder']} ({in_bytes(agent['free_bytes'])} free)"
    yield "round trip", number(agent["round_trip_ms"], 3, " ms")
    yield "busy for", agent["busy_for"] or "nobody"


def rows_of_device(device: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Whatever a device says of itself, part by part."""
    for part in ("device_class", "stack", "regime", "observed"):
        for name, value in device.get(part, {}).items():
            yield name, words(value)


def rows_of_conditions(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Clocks, heat and power, source by source."""
    for source, readings in (found["conditions"] or {}).items():
        for name, value in readings.items():
            yield f"{source} {name}", words(value)
    lock = found["lock"]
    if lock is None:
        return
    held = {True: "held", False: "free", None: "cannot be read"}[lock["held"]]
    yield "clocks", held + (f": {lock['seen']}" if lock["seen"] else "")
    if lock["how"] and lock["held"] is not True:
        yield "to hold them", lock["how"]


def words(value: Any) -> str:
    """A value as people read it: lists joined, tables as their entries, nothing as a dash."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(words(each) for each in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
