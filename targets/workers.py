"""A worker process as the agent sees it: started fresh, asked, watched, killed when it stays silent (device side)."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from targets.errors import TargetError
from targets.host import HEARTBEAT_S, Host
from targets.protocol import Lines, one_line

# A worker starts from these and nothing else: a stray OMP_* or ORT_* of the user's shell would change the timings.
KEPT_VARIABLES = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
SET_VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


class Worker:
    """One child process. `ask` passes its events on and returns its answer; it is killed when it stays silent."""

    def __init__(self, folder: str, setting: dict[str, Any], cores: list[int]) -> None:
        """`setting`: what the runtime is opened with."""
        self.setting = setting
        self._errors = Path(folder, "worker.log")
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        environment.update(SET_VARIABLES)
        command = [sys.executable, *interpreter_options(), *program(), "--worker", json.dumps(setting)]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, ",".join(map(str, cores))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env=environment,
                start_new_session=True,  # what a runtime starts beside itself is ended with it
            )

    def ask(self, request: dict[str, Any], host: Host, show: Callable[[], None]) -> dict[str, Any]:
        """The worker's answer. `HostGone` when the host hangs up first, `TargetError` when the worker dies or hangs.
        `show` is called every second or so; what it raises ends the waiting."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        silence_s = float(request.get("silence_s", 600.0))
        with contextlib.suppress(BrokenPipeError):  # already dead: found out below, with its status
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        lines, heard, beat = Lines(), time.monotonic(), time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            selector.register(host.stdin, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(timeout=min(HEARTBEAT_S, silence_s) / 4):
                    if key.fd == host.stdin:
                        continue  # read below
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        raise TargetError(self._death(request))
                    heard = time.monotonic()
                    for line in lines.feed(data):
                        message: dict[str, Any] = json.loads(line)
                        if "event" not in message:
                            return message
                        host.send(message)
                host.check()
                show()
                if time.monotonic() - heard > silence_s:
                    raise TargetError(
                        f"The worker said nothing for {silence_s:.0f} s while it was to {describe(request)}, and was "
                        "killed. Try a smaller input or look at the load of the device."
                    )
                if time.monotonic() - beat > HEARTBEAT_S:
                    beat = time.monotonic()
                    host.send({"id": request["id"], "event": {"alive": True}})

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left of it
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def _death(self, request: dict[str, Any]) -> str:
        status = self._process.wait()
        if status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
            how += " (memory may have run out)" if -status == signal.SIGKILL else ""
        else:
            how = f"ended with status {status}"
        said = one_line(" ".join(self._errors.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]))
        return f"The worker {how} while it was to {describe(request)}." + (f" It said: {said}" if said else "")


def run_worker(arguments: Sequence[str]) -> None:
    """What `Worker` starts, in the process that it started: `arguments` are those after --worker."""
    from targets import worker  # brings what measures, which the agent itself has no use for

    setting, cores = arguments
    worker.main(json.loads(setting), [int(core) for core in cores.split(",") if core])


def interpreter_options() -> list[str]:
    """-S and -I are the agent's own setting and must reach the worker."""
    return [option for option, on in (("-S", sys.flags.no_site), ("-I", sys.flags.isolated)) if on]


def program() -> list[str]:
    """How this very program is started again: as a module, or as the archive that it was sent in."""
    return [str(Path(sys.argv[0]).absolute())] if sys.argv[0].endswith(".pyz") else ["-m", "targets.agent"]


def describe(request: dict[str, Any]) -> str:
    model = request.get("arguments", {}).get("model")
    return str(request.get("verb")) + (f" {Path(str(model)).name}" if model else "")
