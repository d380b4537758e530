"""The program that runs on a device: it starts a fresh worker for every request and outlives the worker's crashes.

It reads requests (see `protocol`) from standard input, answers on standard output, runs nothing but the worker's
verbs, and ends, with its worker and its folder, when standard input closes. Device side: see the package's docstring.

    python -m targets.agent FOLDER              the agent; FOLDER is private to it and removed at its end
    python -m targets.agent --worker ARGUMENTS  what it starts (see `worker`)
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Deque, TextIO

from targets.errors import BadInput, TargetError
from targets.load import choose_cores, read_cores
from targets.protocol import Lines, claim_stdout, error_of, one_line, send

# A worker starts from these and nothing else: a stray OMP_* or ORT_* of the user's shell would change the timings.
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
SET_VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}

VERBS = ("device", "describe", "build", "run", "time", "profile")
REUSABLE = ("run", "describe")  # not measured: the loaded model stays for the next batch

HEARTBEAT_S = 5.0  # how often a busy agent shows its host that it lives


class HostGone(Exception):
    """Standard input closed: nobody waits for the answer."""


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
            )

    def ask(self, request: dict[str, Any], host: Host) -> dict[str, Any]:
        """The worker's answer. `HostGone` when the host hangs up first, `TargetError` when the worker dies or hangs."""
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
                        host.read()
                        continue
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        raise TargetError(self._death(request))
                    heard = time.monotonic()
                    for line in lines.feed(data):
                        message: dict[str, Any] = json.loads(line)
                        if "event" not in message:
                            return message
                        send(host.answers, message)
                if time.monotonic() - heard > silence_s:
                    raise TargetError(
                        f"The worker said nothing for {silence_s:.0f} s while it was to {describe(request)}, and was "
                        "killed. Try a smaller input or look at the load of the device."
                    )
                if time.monotonic() - beat > HEARTBEAT_S:
                    beat = time.monotonic()
                    send(host.answers, {"id": request["id"], "event": {"alive": True}})

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
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


class Host:
    """The host's end of the two pipes."""

    def __init__(self, stdin: int, answers: TextIO) -> None:
        self.stdin = stdin
        self.answers = answers
        self._lines = Lines()
        self._requests: Deque[dict[str, Any]] = collections.deque()

    def read(self) -> None:
        """Take what has come; blocks when nothing has. `HostGone` at the end of the stream."""
        data = os.read(self.stdin, 1 << 16)
        if not data:
            raise HostGone
        self._requests.extend(json.loads(line) for line in self._lines.feed(data) if line.strip())

    def next_request(self) -> dict[str, Any]:
        while not self._requests:
            self.read()
        return self._requests.popleft()


def serve(host: Host, folder: str) -> None:
    worker: Worker | None = None
    cores_before = read_cores()
    try:
        while True:
            request = host.next_request()
            try:
                setting = setting_of(request)
                if request.get("verb") not in VERBS:
                    raise BadInput(f"The agent knows no verb {request.get('verb')!r}. It has: {', '.join(VERBS)}.")
                if worker is not None and (request["verb"] not in REUSABLE or worker.setting != setting):
                    worker.close()
                    worker = None
                if worker is None:
                    worker = Worker(folder, setting, choose_cores(setting["threads"], cores_before))
                answer = worker.ask(request, host)
            except (BadInput, TargetError, OSError, ValueError) as failure:
                answer = {"id": request["id"], "error": error_of(failure)}
            if worker is not None and ("error" in answer or request["verb"] not in REUSABLE):
                worker.close()
                worker = None
            cores_before = read_cores()
            send(host.answers, answer)
    finally:
        if worker is not None:
            worker.close()


def setting_of(request: dict[str, Any]) -> dict[str, Any]:
    """What the worker opens its runtime with, named as `open_runtime` names it."""
    return {
        "name": str(request.get("runtime", "")),
        "threads": int(request.get("threads", 1)),
        "options": dict(request.get("options", {})),
    }


def interpreter_options() -> list[str]:
    """-S and -I are the agent's own setting and must reach the worker."""
    return [option for option, on in (("-S", sys.flags.no_site), ("-I", sys.flags.isolated)) if on]


def program() -> list[str]:
    """How this very program is started again: as a module, or as the archive that it was sent in."""
    return [str(Path(sys.argv[0]).absolute())] if sys.argv[0].endswith(".pyz") else ["-m", "targets.agent"]


def describe(request: dict[str, Any]) -> str:
    model = request.get("arguments", {}).get("model")
    return str(request.get("verb")) + (f" {Path(str(model)).name}" if model else "")


def main() -> None:
    if sys.argv[1] == "--worker":
        from targets import worker

        worker.main(json.loads(sys.argv[2]), [int(core) for core in sys.argv[3].split(",") if core])
        return
    folder = sys.argv[1]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        serve(Host(0, claim_stdout()), folder)
    except (HostGone, BrokenPipeError):
        pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
