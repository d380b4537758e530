"""Target: what a user names when they say where a model shall run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from targets.errors import BadInput
from targets.runtimes import RUNTIMES

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
REGIMES = ("as-shipped", "locked")

# Of addresses, wherever they stand: names of targets are in errors, reports and databases.
PASSWORD = re.compile(r"(\w+://)?[^@:/,=]*:(?!//)[^@,]*@")
NO_PASSWORDS = "An address holds no password: it would be shown wherever the target is named. Use a key instead."


@dataclass(frozen=True)
class Target:
    """A device with a runtime on it, and how it is to be used.

    `transport` and `runtime` are names from the tables in `targets.transports` and `targets.runtimes`. `address`: where
    the transport finds the device; `config`: a file of the transport's own settings, such as OpenSSH's, in place of the
    user's. `python`: the interpreter over there that has the runtime; "" is python3, and here
    the one that runs cutback. `folder`: of our own on the device; "" is its user's cache. `threads` is
    the number of cores that a model gets, each pinned. `regime` is "as-shipped" (clocks as the device comes) or
    "locked"; timings of the two are never mixed. `options`: the runtime's own, such as a provider; they are part of
    every timing's key.
    """

    name: str
    transport: str = "local"
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    regime: str = "as-shipped"
    options: Mapping[str, Any] = field(default_factory=dict)
    address: str = ""
    config: str = ""
    python: str = ""
    folder: str = ""

    def __post_init__(self) -> None:
        if PASSWORD.match(self.address):
            raise BadInput(NO_PASSWORDS)


BUILT_IN = (
    Target("local"),
    *(Target(f"local-{runtime}", runtime=runtime) for runtime in RUNTIMES if runtime != "onnxruntime"),
)


def find_target(text: str) -> Target:
    """The target that `text` names: `NAME`, or `NAME:FIELD=VALUE,...` with some of its fields set otherwise; what is no
    field of a target is an option of the runtime. `BadInput` lists the known ones."""
    name, _, settings = text.partition(":")
    for target in BUILT_IN:
        if target.name == name:
            return changed(target, text, settings) if settings else target
    raise BadInput(f"There is no target {name!r}. Known targets: {', '.join(target.name for target in BUILT_IN)}.")


def changed(target: Target, text: str, settings: str) -> Target:
    """`target` under the name `text`, with the settings that follow its name there."""
    if any(PASSWORD.match(setting.partition("=")[2].strip()) for setting in settings.split(",")):
        raise BadInput(NO_PASSWORDS)
    known = {each.name for each in fields(Target)} - {"name", "options", "precision"}
    if "precision=" in settings.replace(" ", ""):
        raise BadInput(f"--target {text!r}: a precision is the network's, not the target's. Give --precision.")
    own: dict[str, Any] = {}
    options = dict(target.options)
    for setting in settings.split(","):
        key, equals, value = (part.strip() for part in setting.partition("="))
        if not (equals and key and value):
            raise BadInput(f"--target {text!r}: {setting!r} is no FIELD=VALUE, such as threads=2")
        if key in known:
            own[key] = value
        else:
            options[key] = value
    if "threads" in own:
        if not (own["threads"].isascii() and own["threads"].isdigit()):
            raise BadInput(f"--target {text!r}: threads={own['threads']} is no number of cores")
        own["threads"] = int(own["threads"])
    if own.get("regime", REGIMES[0]) not in REGIMES:
        raise BadInput(f"--target {text!r}: regime {own['regime']!r} is none of {', '.join(REGIMES)}")
    return replace(target, name=text, options=options, **own)
