"""A fleet behind a Dask scheduler: the devices that its owner started workers on, with the target's tag as a resource.

The process that carries the protocol is a relay on this machine (`dask_relay`): it makes a Dask task of every request.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import final

from targets.channel import Channel
from targets.errors import BadInput, LinkLost, RuntimeMissing, TargetError
from targets.protocol import one_line
from targets.target import Target
from targets.transports import MOST_BYTES, Link
from targets.transports.local import PACKAGES, LocalLink
from targets.transports.processes import end
from targets.transports.remote import hear, holder

PATIENCE_S = 60.0  # a worker that has a task shows itself every few seconds
REFUSED, LOST = 2, 3  # how the relay ends; it is not imported here, since Dask may not be installed


@final
class FleetLink(Link):
    """The relay sees this machine's files; what it is asked is done by whichever device is free."""

    pauses_s = (1.0, 5.0, 15.0, 30.0, 60.0)  # a scheduler that is started anew, and the workers that find it
    one_device = False

    def __init__(self, channel: Channel, folder: str) -> None:
        self.channel = channel
        self.folder = folder
        self._files = LocalLink(channel, folder)

    def put(self, path: Path) -> str:
        return self._files.put(path)

    def fetch(self, remote: str, output: Path, most_bytes: int = MOST_BYTES) -> None:
        self._files.fetch(remote, output, most_bytes)


@contextlib.contextmanager
def open_link(target: Target) -> Iterator[Link]:
    if not target.tag:
        raise BadInput(f"{target.name} names no tag: which of the scheduler's devices is it? Give tag=NAME.")
    if find_spec("distributed") is None:
        raise RuntimeMissing("Fleets need Dask here: pip install 'cutback[fleet]'")
    setting = {
        "address": target.address, "tag": target.tag, "holder": holder(), "folder": target.folder,
        "config": str(Path(target.config).expanduser()) if target.config else "", "python": target.python,
        "patience_s": PATIENCE_S,
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="cutback-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as errors,
    ):
        relay = subprocess.Popen(
            [sys.executable, "-m", "targets.transports.dask_relay"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PACKAGES)},
            start_new_session=True,  # Ctrl-C is for the host, which then ends the relay in order
        )  # fmt: skip

        def ended(status: int) -> TargetError:
            errors.seek(0)
            said = one_line(" ".join(errors.read().decode(errors="replace").splitlines()[-1:]))
            if status == REFUSED:
                return TargetError(f"{target.name}: {said}")
            if status == LOST:
                return LinkLost(f"{target.name}: {said}.")
            return LinkLost(f"The relay to {target.name} has ended (status {status}). It said: {said}")

        channel = None
        try:
            assert relay.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended, and says why below
                relay.stdin.write(json.dumps(setting).encode() + b"\n")
                relay.stdin.flush()
            hear(target, relay, ended)
            channel = Channel(relay, target.name, lambda status: str(ended(status)))
            yield FleetLink(channel, folder)
        finally:
            if channel is not None:
                channel.close()
            end(relay)
            if channel is not None:
                channel.join()
            elif relay.stdout is not None:
                relay.stdout.close()
