"""A device that shares no files with its host: the agent is sent there, and files go through the pipes it speaks on.

What every such transport has in common; each brings a command that runs `python3 -c BOOTSTRAP` over there with its
input and output here.
"""

import contextlib
import getpass
import json
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from targets.archive import write_agent
from targets.channel import LONGEST_LINE, Channel, cleaned, digest
from targets.errors import BadInput, LinkLost, TargetError
from targets.target import Target
from targets.transports import Link
from targets.transports.processes import end

BLOCK = 1 << 16
SEND_S = 600.0  # the longest silence over one file: a large model on a slow line and a slow disk
MOST_BYTES = 4 << 30  # of a file that comes back; engines are the largest
START_S = 60.0  # for a device to become our agent; a shell's start-up files on a slow card are the most of it

Explain = Callable[[int, str], TargetError]  # (exit status, what the command said) -> what it means, in one line


@final
class RemoteLink(Link):
    pauses_s = (1.0, 5.0, 15.0, 30.0, 60.0)  # a small board starts within a minute or two

    def __init__(self, channel: Channel, folder: str) -> None:
        self.channel = channel
        self.folder = folder
        self._digests: dict[tuple[str, int, int], str] = {}

    def put(self, path: Path) -> str:
        asked = {"sha256": self._digest(path), "suffix": "".join(path.suffixes[-3:])}
        found, _ = self.channel.ask("have", asked)
        if not found["path"]:
            found, _ = self.channel.ask("store", asked, sent=path, silence_s=SEND_S)
        there = str(found["path"])
        self.channel.names[there] = self.channel.names[Path(there).name] = path.name
        return there

    def fetch(self, remote: str, output: Path) -> None:
        told, got = self.channel.ask("fetch", {"path": remote}, most_bytes=MOST_BYTES, silence_s=SEND_S)
        if got is None or digest(got) != told["sha256"]:
            raise LinkLost(f"{Path(remote).name} arrived damaged.")
        beside = output.with_name(f".{output.name}.{os.getpid()}.part")
        try:
            shutil.move(got, beside)
            beside.replace(output)
        except OSError as failure:
            raise BadInput(
                f"Cannot write {output}: {failure.strerror}. Free space or choose another path."
            ) from failure
        finally:
            for left in (got, beside):
                with contextlib.suppress(OSError):
                    left.unlink()

    def _digest(self, path: Path) -> str:
        found = path.stat()
        key = (str(path.absolute()), found.st_mtime_ns, found.st_size)
        if key not in self._digests:
            self._digests[key] = digest(path)
        return self._digests[key]


@contextlib.contextmanager
def open_remote(
    target: Target, command: Sequence[str], explain: Explain, environment: Mapping[str, str] | None = None
) -> Iterator[Link]:
    """Run `command`, start the agent through it, and give the link. What the command says on its standard error is
    for `explain`, when it ends."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment,
                start_new_session=True,  # Ctrl-C is for the host, which then ends the agent in order
            )  # fmt: skip
        except OSError as failure:
            raise TargetError(f"Cannot run {command[0]}: {failure.strerror}. Install it here.") from failure

        def ended(status: int) -> TargetError:
            said.seek(0)
            return explain(status, said.read().decode(errors="replace"))

        channel = None
        try:
            start_agent(target, process, ended)
            channel = Channel(process, target.name, lambda status: str(ended(status)))
            told, _ = channel.ask("session", {})
            yield RemoteLink(channel, str(told["folder"]))
        finally:
            if channel is None:
                end(process, alone=True)
                assert process.stdout is not None
                process.stdout.close()
            else:
                channel.close()
                end(process, alone=True)
                channel.join()


def start_agent(target: Target, process: "subprocess.Popen[bytes]", ended: Callable[[int], TargetError]) -> None:
    """The host's side of the bootstrap."""
    assert process.stdin is not None
    with tempfile.TemporaryDirectory(prefix="cutback-agent-") as folder:
        archive = Path(folder, "agent.pyz")
        write_agent(archive)
        asked = {"sha256": digest(archive), "size": archive.stat().st_size, "holder": holder()}
        asked = {**asked, "root": target.folder, "python": target.python}
        silent = threading.Event()
        watchdog = threading.Timer(START_S, lambda: (silent.set(), process.kill()))
        watchdog.start()
        try:
            say(process, json.dumps(asked).encode() + b"\n")
            answer = hear(process, ended)
            if answer.get("have") is False:
                say(process, archive.read_bytes())
                answer = hear(process, ended)
        except LinkLost as lost:
            if silent.is_set():
                raise LinkLost(
                    f"{target.name} lets us in and then says nothing for {START_S:.0f} s. Is the device overloaded?"
                ) from lost
            raise
        finally:
            watchdog.cancel()
            watchdog.join()
    if "error" in answer:
        raise TargetError(f"{target.name}: {answer['error']}")


def say(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    """What ends meanwhile has its reason in its last words, which are read next."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        process.stdin.flush()


def hear(process: "subprocess.Popen[bytes]", ended: Callable[[int], TargetError]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline(LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise ended(process.wait())
    try:
        found = cleaned(json.loads(line))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise TargetError(
            "The device says something before our agent does: " + repr(line[:80].decode(errors="replace")) + ". "
            "Its shell must be silent where nobody types: look at .bashrc and the like there."
        )
    return found


def holder() -> str:
    return f"{getpass.getuser()}@{platform.node()}"
