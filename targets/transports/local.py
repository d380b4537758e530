"""This machine: the agent is a child process, and both sides see the same files."""

import contextlib
import os
import shlex
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from targets.channel import Channel
from targets.errors import TargetError
from targets.target import Target
from targets.transports import MOST_BYTES, Link
from targets.transports.keeping import keep
from targets.transports.processes import end

PACKAGES = Path(__file__).parents[2]  # the folder that holds `targets`


class LocalLink(Link):
    def __init__(self, channel: Channel, folder: str, pauses_s: tuple[float, ...] = ()) -> None:
        self.channel = channel
        self.folder = folder
        self.pauses_s = pauses_s

    def put(self, path: Path) -> str:
        return str(path.absolute())

    def fetch(self, remote: str, output: Path, most_bytes: int = MOST_BYTES) -> None:
        try:
            found = Path(remote).lstat()
        except OSError as failure:
            raise TargetError(f"The agent left no {Path(remote).name}: {failure.strerror}.") from failure
        if not stat.S_ISREG(found.st_mode) or found.st_size > most_bytes:
            raise TargetError(f"What the agent left as {Path(remote).name} is no file, or a larger one than can be.")
        keep(Path(remote), output)


@contextlib.contextmanager
def open_link(target: Target) -> Iterator[Link]:
    """`target.python` may be a command of several words."""
    command = [*(shlex.split(target.python) or [sys.executable]), "-m", "targets.agent"]
    with open_here(target, command) as link:
        yield link


@contextlib.contextmanager
def open_here(
    target: Target, command: Sequence[str], arguments: Sequence[str] = (), pauses_s: tuple[float, ...] = ()
) -> Iterator[Link]:
    """An agent that `command` runs on this machine; it is given its folder and the `arguments`."""
    with tempfile.TemporaryDirectory(prefix="cutback-", ignore_cleanup_errors=True) as folder:
        try:
            agent = subprocess.Popen(
                [*command, folder, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PACKAGES)},
                start_new_session=True,  # Ctrl-C is for the host, which then ends the agent in order
            )
        except OSError as failure:
            raise TargetError(f"Cannot start the agent with {command[0]}: {failure.strerror}.") from failure
        channel = Channel(
            agent, target.name, lambda status: f"The agent on {target.name} has ended (status {status}). Connect again."
        )
        try:
            yield LocalLink(channel, folder, pauses_s)
        finally:
            channel.close()
            end(agent)
            channel.join()
