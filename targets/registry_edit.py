"""Changes to a `targets.toml`: comments, order and everything else in it stay as they are."""

import contextlib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from targets.errors import BadInput
from targets.registry import Entry, check_name, parse, read

HEADER = "Devices that cutback --target may name; see: cutback targets --help"


def add(path: Path, name: str, fields: Mapping[str, Any], *, replace: bool = False) -> Entry:
    """Write the target into the file, which is made where it is not there. `BadInput` where it has one of that name
    already, and may not replace it."""
    check_name(name, str(path))
    known = read(path) if path.exists() else {}
    if name in known and not replace:
        raise BadInput(f"{path} has a target {name!r} already. To write over it: --replace")

    def change(tables: Any) -> None:
        if name not in tables:
            tables[name] = tomlkit.table()
        fill(tables[name], fields)

    rewrite(path, change, lambda tables: {**tables, name: plain(fields)})
    return read(path)[name]


def fill(table: Any, fields: Mapping[str, Any]) -> None:
    """Make the table say `fields` and nothing else; what stays in it keeps its comments."""
    for key in [key for key in table if key not in fields]:
        del table[key]
    for key, value in fields.items():
        if isinstance(value, Mapping) and isinstance(table.get(key), dict):
            fill(table[key], value)
        else:
            table[key] = dict(value) if isinstance(value, Mapping) else value


def remove(path: Path, name: str) -> None:
    if name not in read(path):
        raise BadInput(f"{path} has no target {name!r}. See: cutback targets")

    def change(tables: Any) -> None:
        del tables[name]

    rewrite(path, change, lambda tables: {key: table for key, table in tables.items() if key != name})


def rewrite(path: Path, change: Callable[[Any], None], meant: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the file's table of targets. What is written is read again first, and says what was `meant` and nothing
    else; beside, then renamed, where the file itself lies if `path` is a link to it."""
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        document = tomlkit.parse(before)
        if not before:
            document.add(tomlkit.comment(HEADER))
        if "targets" not in document:
            document["targets"] = tomlkit.table(is_super_table=True)
        change(document["targets"])
        after = tomlkit.dumps(document)
        sound = tables_of(after) == meant(tables_of(before))
    except (TOMLKitError, ValueError):  # a table that is written in one line takes no further ones
        sound = False
    if not sound:
        raise BadInput(f"{path} is written in a way that cannot be changed without harm. Change it by hand.")
    parse(after, path)
    write(path.resolve(), after)


def write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)
        beside.replace(path)
    except OSError as failure:
        raise BadInput(f"Cannot write {path}: {failure.strerror}. Choose --user or --project.") from failure
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def tables_of(text: str) -> dict[str, Any]:
    tables: dict[str, Any] = tomllib.loads(text).get("targets", {})
    return tables


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in fields.items()}
