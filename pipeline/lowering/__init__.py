"""What has to be compiled from torch before a device can load it, by runtime; and connections that do so."""

import importlib
from contextlib import AbstractContextManager

from targets.connection import Connection, Tell, silent
from targets.connection import connect as connect_to
from targets.copies import Lower
from targets.target import Target

LOWERINGS = {  # runtime -> module with `lower(model, output)`; imported when a model is sent
    "executorch": "pipeline.lowering.executorch",
}


def connect(target: Target, *, tell: Tell = silent) -> AbstractContextManager[Connection]:
    """As `targets.connection.connect`, with what the target's runtime wants compiled from torch on the way."""
    return connect_to(target, lower=lowering(target.runtime), tell=tell)


def connect_fleet(
    target: Target, count: int | None = None, *, tell: Tell = silent
) -> AbstractContextManager[tuple[Connection, ...]]:
    """As `targets.fleet.connect_fleet`, likewise."""
    from targets.fleet import connect_fleet as connect_all

    return connect_all(target, count, lower=lowering(target.runtime), tell=tell)


def lowering(runtime: str) -> Lower | None:
    if runtime not in LOWERINGS:
        return None
    found: Lower = importlib.import_module(LOWERINGS[runtime]).lower
    return found
