"""Target: what a user names when they say where a model shall run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from targets import registry
from targets.errors import BadInput
from targets.target_fields import FIELDS, LOCAL, NO_PASSWORDS, close_to, has_password, problem


@dataclass(frozen=True)
class Target:
    """A device with a runtime on it, and how it is to be used.

    `transport` and `runtime` are names from the tables in `targets.transports` and `targets.runtimes`. `address`: where
    the transport finds the device; `config`: a file of the transport's own settings, such as OpenSSH's, in place of the
    user's. `tag`: which of a fleet's devices, all of one kind. `python`: the interpreter over there that has the
    runtime; "" is python3, and here the one that runs cutback. `binary`: a runtime's own benchmark for a phone without
    Python, a file here or a path over there. `folder`: of our own on the device; "" is its user's cache. `threads` is
    the number of cores that a model gets, each pinned. `regime` is "as-shipped" (clocks as the device comes) or
    "locked"; timings of the two are never mixed. `options`: the runtime's own, such as a provider; they are part of
    every timing's key. `precision` is what `--precision` is where nobody gives it; "": as the command says. No timing
    hangs on it. `cores`: "big", "little" or "prime" pins to that kind, where a device has cores of unequal size; "" to
    the fastest.
    """

    name: str
    transport: str = "local"
    runtime: str = "onnxruntime"
    precision: str = ""
    threads: int = 1
    regime: str = "as-shipped"
    options: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""
    config: str = ""
    python: str = ""
    folder: str = ""
    cores: str = ""
    tag: str = ""
    binary: str = ""

    def __post_init__(self) -> None:
        if has_password(self.address):
            raise BadInput(f"{NO_PASSWORDS}.")


BUILT_IN = tuple(Target(name, runtime=runtime) for name, runtime in LOCAL.items())


def find_target(text: str) -> Target:
    """The target that `text` names: `NAME`, or `NAME:FIELD=VALUE,...` with some of its fields set otherwise; what is no
    field of a target is an option of the runtime. A name is built in, or stands in the project's `targets.toml` or in
    the user's (see `targets.registry`). `BadInput` lists the known ones."""
    name, _, settings = text.partition(":")
    found = {target.name: target for target in BUILT_IN}
    if name not in found:
        found |= {target.name: target for target, _ in yours()}
    if name not in found:
        raise BadInput(
            f"There is no target {name!r}{close_to(name, found) or '.'} Known targets: {', '.join(found)}. "
            "Name a device: cutback targets add"
        )
    return changed(found[name], text, settings) if settings else found[name]


def yours() -> list[tuple[Target, str]]:
    """The targets that files name, and the file of each."""
    return [(Target(entry.name, **entry.fields), str(entry.file)) for entry in registry.entries().values()]


def changed(target: Target, text: str, settings: str) -> Target:
    """`target` under the name `text`, with the settings that follow its name there."""
    if any(has_password(setting.partition("=")[2].strip()) for setting in settings.split(",")):
        raise BadInput(f"--target {target.name}: {NO_PASSWORDS}.")  # the text itself would repeat it
    if "precision=" in settings.replace(" ", ""):
        raise BadInput(f"--target {text!r}: a precision is the network's, not the target's. Give --precision.")
    own: dict[str, Any] = {}
    options = dict(target.options)
    for setting in settings.split(","):
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not (equals and key and value):
            raise BadInput(f"--target {text!r}: {setting!r} is no FIELD=VALUE, such as threads=2")
        if key not in FIELDS:
            options[key] = value
            continue
        own[key] = int(value) if key == "threads" and value.isascii() and value.isdigit() else value
        wrong = problem(key, own[key])
        if wrong:
            raise BadInput(f"--target {text!r}: {wrong}")
    return replace(target, name=text, options=options, **own)
