"""What has to be compiled from torch before a device can load it, by runtime; and connections that do so."""

import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

from targets.connection import Connection, Lower
from targets.connection import connect as connect_to
from targets.target import Target

LOWERINGS = {  # runtime -> module with `lower(model, output)`; imported when a model is sent
    "executorch": "pipeline.lowering.executorch",
}


def connect(target: Target, *, interpreter: Sequence[str] | None = None) -> AbstractContextManager[Connection]:
    """As `targets.connection.connect`, with what the target's runtime wants compiled from torch on the way."""
    return connect_to(target, interpreter=interpreter, lower=lowering(target.runtime))


def lowering(runtime: str) -> Lower | None:
    if runtime not in LOWERINGS:
        return None
    found: Lower = importlib.import_module(LOWERINGS[runtime]).lower
    return found
