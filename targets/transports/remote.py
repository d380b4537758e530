"""A device that shares no files with its host: the agent is sent there, and files go through the pipes it speaks on.

What every such transport has in common; each brings a command that runs `python3 -c BOOTSTRAP` over there with its
input and output here.
"""

import contextlib
import getpass
import json
import platform
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from targets.answers import path_from
from targets.archive import write_agent
from targets.channel import Channel, digest
from targets.errors import LinkLost, TargetError
from targets.foreign_json import parsed
from targets.pipes import write_all
from targets.protocol import one_line
from targets.target import Target
from targets.transports import MOST_BYTES, Link
from targets.transports.keeping import keep
from targets.transports.processes import Said, end, status_of

SEND_S = 180.0  # the longest silence over one file, while a slow disk takes the end of it
START_S = 60.0  # until our agent runs over there; a small board reads Python from a slow card
LONGEST_GREETING = 1 << 14  # bytes of a line before that

Explain = Callable[[int, str], TargetError]  # (exit status, what the command said) -> what it means, in one line


@final
class RemoteLink(Link):
    pauses_s = (1.0, 5.0, 15.0, 30.0, 60.0)  # a small board starts within a minute or two

    def __init__(self, channel: Channel, name: str) -> None:
        """`name`: of the target."""
        self.channel = channel
        self._name = name
        self._digests: dict[tuple[str, int, int], str] = {}
        told, _ = channel.ask("session", {})
        self.folder = self._path(told, "folder")

    def put(self, path: Path) -> str:
        asked = {"sha256": self._digest(path), "suffix": "".join(path.suffixes[-3:])}
        found, _ = self.channel.ask("have", asked)
        if found == {"path": None}:
            found, _ = self.channel.ask("store", asked, sent=path, silence_s=SEND_S)
        there = self._path(found, "path")
        self.channel.names[there] = self.channel.names[Path(there).name] = path.name
        return there

    def fetch(self, remote: str, output: Path, most_bytes: int = MOST_BYTES) -> None:
        told, got = self.channel.ask("fetch", {"path": remote}, most_bytes=most_bytes, silence_s=SEND_S)
        if got is None:
            raise TargetError(f"{self._name} was asked for {Path(remote).name} and sent no file.")
        try:
            if digest(got) != self._path(told, "sha256"):
                raise LinkLost(f"{Path(remote).name} of {self._name} arrived damaged.")
            keep(got, output)
        finally:
            got.unlink(missing_ok=True)

    def _path(self, told: Any, part: str) -> str:
        try:
            return path_from(told, part)
        except ValueError as failure:
            raise TargetError(
                f"The agent on {self._name} answered with what makes no sense ({failure}). Is that device what you "
                "think it is?"
            ) from failure

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
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            start_new_session=True,  # Ctrl-C is for the host, which then ends the agent in order
        )  # fmt: skip
    except OSError as failure:
        raise TargetError(f"Cannot run {command[0]}: {failure.strerror}. Install it here.") from failure
    said = Said(process)

    def ended(status: int) -> TargetError:
        return explain(status, said.text())

    channel = None
    try:
        start_agent(target, process, ended)
        channel = Channel(process, target.name, lambda status: str(ended(status)))
        yield RemoteLink(channel, target.name)
    finally:
        if channel is not None:
            channel.close()
        end(process, alone=True)
        if channel is not None:
            channel.join()
        elif process.stdout is not None:
            process.stdout.close()
        said.close()


def start_agent(target: Target, process: "subprocess.Popen[bytes]", ended: Callable[[int], TargetError]) -> None:
    """The host's side of the bootstrap."""
    assert process.stdin is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(START_S, give_up)
    timer.daemon = True
    timer.start()
    try:
        answer = bootstrapped(target, process, ended)
    except (TargetError, BrokenPipeError, ConnectionResetError, TimeoutError) as failure:
        if late.is_set() or isinstance(failure, TimeoutError):
            raise LinkLost(f"{target.name}: our agent did not start there within {START_S:.0f} s.") from failure
        if isinstance(failure, OSError):
            raise ended(status_of(process)) from failure
        raise
    finally:
        timer.cancel()
    if "error" in answer:
        raise TargetError(f"{target.name}: {one_line(str(answer['error']))}")


def bootstrapped(
    target: Target, process: "subprocess.Popen[bytes]", ended: Callable[[int], TargetError]
) -> dict[str, Any]:
    """The last answer of the program that becomes the agent. `OSError` where it is gone, or takes nothing."""
    assert process.stdin is not None
    pipe = process.stdin.fileno()
    with tempfile.TemporaryDirectory(prefix="cutback-agent-") as folder:
        archive = Path(folder, "agent.pyz")
        write_agent(archive)
        asked = {"sha256": digest(archive), "size": archive.stat().st_size, "holder": holder()}
        asked = {**asked, "root": target.folder, "python": target.python}
        write_all(pipe, json.dumps(asked).encode() + b"\n", START_S)
        answer = hear(target, process, ended)
        if answer.get("have") is False:
            with contextlib.suppress(BrokenPipeError):  # why it does not want all of it is what it says next
                write_all(pipe, archive.read_bytes(), START_S)
            answer = hear(target, process, ended)
    return answer


def hear(target: Target, process: "subprocess.Popen[bytes]", ended: Callable[[int], TargetError]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline(LONGEST_GREETING)
    if not line.endswith(b"\n") and len(line) < LONGEST_GREETING:
        raise ended(status_of(process))
    try:
        found = parsed(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TargetError(
            f"{target.name} says something before our agent does: " + repr(line[:80].decode(errors="replace")) + ". "
            "Its shell must be silent where nobody types: look at .bashrc and the like there."
        )
    return found


def holder() -> str:
    return f"{getpass.getuser()}@{platform.node()}"
