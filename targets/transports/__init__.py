"""Ways to reach a device, by name. Adding one: a file here, a line in `TRANSPORTS`; the contract suite runs over it."""

from __future__ import annotations

import abc
import importlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from targets.channel import Channel
from targets.errors import BadInput

if TYPE_CHECKING:  # a target is checked against the table below
    from targets.target import Target

TRANSPORTS = {  # name -> module with `open_link(Target) -> context manager of a Link`; imported when asked for
    "local": "targets.transports.local",
    "ssh": "targets.transports.ssh",
    "adb": "targets.transports.adb",
    "dask": "targets.transports.dask",
}

MOST_BYTES = 4 << 30  # of a file that comes back; engines are the largest


class Link(abc.ABC):
    """A running agent and a way to move files to and from it.

    Leaving the context that gave it ends the agent and all its workers and removes their folder, whatever state they
    are in. For one thread.
    """

    channel: Channel  # to the agent
    folder: str  # the agent's own, as a path on the device
    pauses_s: tuple[
        float, ...
    ] = ()  # before each further attempt where the link is lost: a device may be starting anew
    one_device: bool = True  # at the other end; else any of one kind, a request at a time

    @abc.abstractmethod
    def put(self, path: Path) -> str:
        """Make a file of the host readable to the agent; its path on the device. The file is not changed."""

    @abc.abstractmethod
    def fetch(self, remote: str, output: Path, most_bytes: int = MOST_BYTES) -> None:
        """Bring a file of the agent's folder here and remove it there. `output` appears whole or not at all, and is
        never larger than `most_bytes`."""


def open_link(target: Target) -> AbstractContextManager[Link]:
    """Start an agent on the target's device. `LinkLost` where the device does not answer just now, `TargetError` where
    it will not answer however often it is asked."""
    if target.transport not in TRANSPORTS:
        raise BadInput(f"There is no transport {target.transport!r}. Known: {', '.join(TRANSPORTS)}.")
    link: AbstractContextManager[Link] = importlib.import_module(TRANSPORTS[target.transport]).open_link(target)
    return link
