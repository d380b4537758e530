"""The profile database for people."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from pipeline.cli.tables import console, number, table
from targets.profiles.key import KernelKey, canonical
from targets.profiles.search import NAMING, operators

if TYPE_CHECKING:
    from targets.profiles.families import Family
    from targets.profiles.overview import KernelLine

CONDITIONS = ("device", "stack", "regime")
SPANS = ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute"))


def print_coverage(found: Sequence[Mapping[str, Any]]) -> None:
    out = console()
    if not found:
        out.print("The profile database is empty. Fill it with: cutback profile MODEL")
        return
    rows = [
        (
            *(escape("\n".join(leaves(line[part]))) for part in CONDITIONS),
            escape("\n".join(f"{place} {count:,}" for place, count in sorted(line["timed"].items()))),
            f"{number(line['rows'])}\n[dim]in {number(line['sessions'])} sessions[/dim]",
            f"{age(line['newest'])}\n[dim]oldest {age(line['oldest'])}[/dim]",
        )
        for line in found
    ]
    out.print(table("Profile database", (*CONDITIONS, "kernels", "rows", "newest"), rows, left=4))


def print_kernels(found: "Sequence[KernelLine]", total: int) -> None:
    out = console()
    if not found:
        out.print("No such kernel was timed. What there is: cutback db")
        return
    conditions = conditions_of([line.key for line in found])
    rows = [
        (
            escape(kernel_text(line.key.op)),
            *((escape(conditions[index]),) if any(conditions) else ()),
            escape(str(line.key.method.get("place", ""))),
            number(line.rows),
            number(line.best_ns / 1e3),
            number(line.median_ns / 1e3),
            age(line.newest),
        )
        for index, line in enumerate(found)
    ]
    where = ("where",) if any(conditions) else ()
    columns = ("kernel", *where, "timed", "rows", "best us", "median us", "newest")
    out.print(table(f"Kernels ({len(found):,} of {total:,})", columns, rows, left=2 + len(where)))


def print_families(found: "Sequence[Family]", total: int) -> None:
    out = console()
    if not found:
        out.print("No such kernel was timed at three widths or more. Fill the database with: cutback profile MODEL")
        return
    conditions = conditions_of([family.example for family in found])
    rows = [
        (
            family.id,
            escape(kernel_text(family.op)),
            *((escape(conditions[index]),) if any(conditions) else ()),
            escape(str(family.example.method.get("place", ""))),
            number(len(family.keys)),
            f"{min(family.keys)} to {max(family.keys)}",
        )
        for index, family in enumerate(found)
    ]
    where = ("where",) if any(conditions) else ()
    columns = ("family", "kernel (* is what varies)", *where, "timed", "widths", "from")
    out.print(table(f"Staircases ({len(found):,} of {total:,})", columns, rows, left=3 + len(where)))
    out.print("one of them: cutback db stairs FAMILY")


def print_merged(done: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (escape(each["path"]), *(f"{number(each['new'][name])} of {number(each['file'][name])}" for name in MERGED))
        for each in done
    ]
    console().print(table("Merged: how much was new", ("file", "sessions", "kernels", "rows"), rows))


MERGED = ("sessions", "keys", "rows")


def kernel_text(op: Mapping[str, Any]) -> str:
    """An op document in one line: its operators, then whatever else it says."""
    named = "+".join(operators(op)) or "whole network"
    return ", ".join([named, *leaves(op, without=NAMING)])


def leaves(document: Mapping[str, Any], without: Sequence[str] = ()) -> list[str]:
    """Every value with its name, widths first; what is empty, no or null says nothing."""
    found: list[str] = []
    for name, value in sorted(document.items(), key=lambda item: not item[0].startswith("width")):
        if name in without or value is False or (not value and value != 0):
            continue
        if isinstance(value, Mapping):
            found += leaves(value, without)
        else:
            found.append(name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {short(value)}")
    return found


def short(value: Any) -> str:
    if not isinstance(value, (list, tuple)):
        return str(value)
    plain = all(isinstance(each, str) for each in value) or any(isinstance(each, (list, tuple)) for each in value)
    return (" " if plain else "x").join(map(short, value))


def conditions_of(keys: Sequence[KernelKey]) -> list[str]:
    """For each key, what of its device, stack and regime differs among them; empty where all are of one."""
    flat = [
        {f"{part}.{path}": value for part in CONDITIONS for path, value in flattened(getattr(key, part)).items()}
        for key in keys
    ]
    names = sorted({name for each in flat for name in each})
    differing = [name for name in names if len({each.get(name) for each in flat}) > 1]
    return [", ".join(f"{name} {each[name]}" for name in differing if name in each) for each in flat]


def flattened(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, str) else canonical({"": value})[4:-1]
    return found


def age(taken_at: str, now: dt.datetime | None = None) -> str:
    """How long ago, in the largest unit that it fills; the text itself where it is no time."""
    try:
        then = dt.datetime.strptime(taken_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        return taken_at
    seconds = ((now or dt.datetime.now(dt.UTC)) - then).total_seconds()
    for span, unit in SPANS:
        if seconds >= span:
            count = int(seconds // span)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now" if seconds >= 0 else taken_at
