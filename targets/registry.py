"""The targets that a user has named: what `targets.toml` says, the project's first, then the user's own.

    [targets.jetson-lab-3]
    transport = "ssh"
    address = "me@jetson-lab-3"
    runtime = "tensorrt"

    [targets.jetson-lab-3.options]
    dla = "0"

One table a target; its keys are `targets.target_fields.FIELDS`, its options those of the runtime. `config` is relative
to the file that names it.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targets.errors import BadInput
from targets.target_fields import FIELDS, LOCAL, close_to, problem

FILE = "targets.toml"
VARIABLE = "CUTBACK_TARGETS"  # names the project's file, wherever it lies
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")  # none begins as an option does


@dataclass(frozen=True)
class Entry:
    """`fields`: of a `targets.target.Target`, checked; those that the file leaves out are not in it."""

    name: str
    file: Path
    fields: Mapping[str, Any]


def user_file() -> Path:
    """Where the user's own targets are; it need not be there."""
    import platformdirs

    return Path(platformdirs.user_config_dir("cutback"), FILE)


def project_file() -> Path | None:
    """The one that `CUTBACK_TARGETS` names, else the nearest upwards from the working directory, within its repository
    where it is in one. `BadInput` where that one belongs to somebody else: what a target says is run."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser().absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = folder / FILE
        if found.is_file():
            if found.stat().st_uid not in (os.getuid(), 0):
                raise BadInput(f"{found} belongs to another user. If you trust it: export {VARIABLE}={found}")
            return found
        if (folder / ".git").exists():
            return None
    return None


def entries() -> dict[str, Entry]:
    """All of them by name, the project's first; where both files have a name, the project's counts."""
    project, own = project_file(), user_file()
    first = read(project) if project is not None else {}
    return {
        **first,
        **{name: entry for name, entry in (read(own) if own.exists() else {}).items() if name not in first},
    }


def read(path: Path) -> dict[str, Entry]:
    """The file's targets by name. `BadInput` in one line: the file, the target, the key, and what may stand there."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as failure:
        raise BadInput(
            f"{path} is not there ({VARIABLE} names it). Write it with: cutback targets add --project"
        ) from failure
    except OSError as failure:
        raise BadInput(f"{path}: the targets cannot be read: {failure.strerror}.") from failure
    except UnicodeDecodeError as failure:
        raise BadInput(f"{path}: the targets cannot be read: it is no UTF-8 text.") from failure
    return parse(text, path)


def parse(text: str, path: Path) -> dict[str, Entry]:
    """What `read` gives, of a text that is or will be in the file `path`."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as failure:
        raise BadInput(f"{path}: not TOML: {failure}") from failure
    for key in content:
        if key != "targets":
            raise BadInput(f"{path}: unknown key {key!r}. Every target is a table: [targets.NAME]")
    tables = content.get("targets", {})
    if not isinstance(tables, dict):
        raise BadInput(f"{path}: targets is no table. Every target is one: [targets.NAME]")
    return {name: entry_of(name, table, path) for name, table in tables.items()}


def entry_of(name: str, table: object, path: Path) -> Entry:
    where = f"{path}: targets.{name}"
    check_name(name, where)
    if not isinstance(table, dict):
        raise BadInput(f"{where} is no table. Write it as [targets.{name}] with a line for each key")
    fields: dict[str, Any] = {}
    for key, value in table.items():
        if key == "options":
            fields["options"] = options_of(value, where)
            continue
        if key not in FIELDS:
            known = (*FIELDS, "options")
            raise BadInput(f"{where}: unknown key {key!r}{close_to(key, known) or '.'} Known: {', '.join(known)}")
        wrong = problem(key, value)
        if wrong:
            raise BadInput(f"{where}: {wrong}")
        fields[key] = value
    if fields.get("config"):
        fields["config"] = str((path.parent / Path(fields["config"]).expanduser()).absolute())
    return Entry(name, path, fields)


def check_name(name: str, where: str) -> None:
    if not NAME.fullmatch(name):
        raise BadInput(f"{where}: {name!r} is no name for a target. Take letters, digits, - and _")
    if name in LOCAL:
        raise BadInput(f"{where}: {name!r} is built in and means this machine. Take another name")


def options_of(value: object, where: str) -> dict[str, str]:
    """As the command line would give them: text."""
    if not isinstance(value, dict):
        raise BadInput(f"{where}: options is no table of the runtime's options, such as provider = 'cuda'")
    for key, option in value.items():
        if type(option) not in (str, int) or not str(option).isprintable():
            raise BadInput(f"{where}: options.{key} is {option!r}. Give text or a whole number")
    return {key: str(option) for key, option in value.items()}
