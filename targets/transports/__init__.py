"""Ways to reach a device, by name. Adding one: a file here, a line in `TRANSPORTS`; the contract suite runs over it."""

import abc
import importlib
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from targets.errors import BadInput

TRANSPORTS = {  # name -> module with `open_link() -> context manager of a Link`; imported when asked for
    "local": "targets.transports.local",
}


class Link(abc.ABC):
    """A running agent and a way to move files to and from it.

    Leaving the context that gave it ends the agent and all its workers and removes their folder, whatever state they
    are in. For one thread.
    """

    agent: "subprocess.Popen[bytes]"  # its standard input and output carry the protocol
    folder: str  # the agent's own, as a path on the device

    @abc.abstractmethod
    def put(self, path: Path) -> str:
        """Make a file of the host readable to the agent; its path on the device. The file is not changed."""

    @abc.abstractmethod
    def fetch(self, remote: str, output: Path) -> None:
        """Bring a file of the agent's folder here and remove it there. `output` appears whole or not at all."""


def open_link(transport: str, interpreter: Sequence[str] | None = None) -> AbstractContextManager[Link]:
    """Start an agent. `interpreter` is the Python command on the device (None: the transport's default)."""
    if transport not in TRANSPORTS:
        raise BadInput(f"There is no transport {transport!r}. Known: {', '.join(TRANSPORTS)}.")
    link: AbstractContextManager[Link] = importlib.import_module(TRANSPORTS[transport]).open_link(interpreter)
    return link
