"""This machine: the agent is a child process, and both sides see the same files."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from targets.errors import BadInput, TargetError
from targets.transports import Link

GRACE_S = 2.0  # what an agent gets to end by itself once its input is closed

PACKAGES = Path(__file__).parents[2]  # the folder that holds `targets`


class LocalLink(Link):
    def __init__(self, agent: "subprocess.Popen[bytes]", folder: str) -> None:
        self.agent = agent
        self.folder = folder

    def put(self, path: Path) -> str:
        return str(path.absolute())

    def fetch(self, remote: str, output: Path) -> None:
        beside = output.with_name(f".{output.name}.{os.getpid()}.part")
        try:
            try:
                shutil.move(remote, beside)
                beside.replace(output)
            except OSError as failure:
                raise BadInput(
                    f"Cannot write {output}: {failure.strerror}. Free space or choose another path."
                ) from failure
        finally:
            with contextlib.suppress(OSError):
                beside.unlink()


@contextlib.contextmanager
def open_link(interpreter: Sequence[str] | None = None) -> Iterator[Link]:
    command = [*(interpreter or [sys.executable]), "-m", "targets.agent"]
    with tempfile.TemporaryDirectory(prefix="cutback-", ignore_cleanup_errors=True) as folder:
        try:
            agent = subprocess.Popen(
                [*command, folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PACKAGES)},
                start_new_session=True,  # Ctrl-C is for the host, which then ends the agent in order
            )
        except OSError as failure:
            raise TargetError(f"Cannot start the agent with {command[0]}: {failure.strerror}.") from failure
        try:
            yield LocalLink(agent, folder)
        finally:
            end(agent)


def end(agent: "subprocess.Popen[bytes]") -> None:
    """Close the agent's input, wait for it, and kill what is left of its session."""
    assert agent.stdin is not None
    assert agent.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        agent.stdin.close()
    try:
        agent.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it
            os.killpg(agent.pid, signal.SIGKILL)
        agent.wait()
        agent.stdout.close()
