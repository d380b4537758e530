"""What a Dask worker does for one request of ours: it starts the agent as a child process, gives it the files, asks,
and brings back what it made (device side).

The text of this file is the task: it travels with every request and is run there as it stands, so that nothing of ours
is installed on a device and no bytecode of one Python meets another. Device side: see the package's docstring.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

HEARTBEAT_S = 5.0
SILENCE_S = 90.0  # an agent shows itself every few seconds; the longest pause is a large file on a slow disk
GRACE_S = 2.0  # what it gets to end by itself
BLOCK = 1 << 16

Message = Dict[str, Any]


# What ends a task without an answer is a RuntimeError, which every Python knows: Dask asks again, here or elsewhere.


def perform(order_text: str, files: Dict[str, bytes]) -> bytes:
    """A line of JSON, and the bytes of the file that was made. `files`: by hash; "agent" is the agent's archive. In the
    order (JSON):

        bootstrap   the program that becomes the agent, and `asked`, its first line
        verb, setting, silence_s, arguments       as the agent takes them
        sent        argument -> {"sha256", "suffix"}: whose path it is there
        made        the argument that names a file to bring back, or ""
        expected    parts of a device that has to be like this one, or null
        topic       of Dask's events, where this shows that it lives

    The answer has `worker`, `observed`, `began_s`, `ended_s`, `made` (whether there is a file), and a `result`, an
    `error`, or `other`: a device that is not as expected, on which nothing was done.
    """
    from distributed import get_worker

    order = json.loads(order_text)
    worker = get_worker()
    key = worker.get_current_task()

    def check() -> None:
        task = worker.state.tasks.get(key)
        if worker.status.name != "running" or task is None or task.state != "executing":
            raise RuntimeError("Nobody waits for this any more.")

    def show(event: Message) -> None:
        worker.log_event(order["topic"], {"key": key, "name": str(worker.name), **event})

    began_s = time.time()
    show({"begun": True})
    agent = Agent(order, files["agent"], check, show)
    try:
        device, answer, made = work(agent, order, files)
    finally:
        agent.end()
    head = {"worker": str(worker.name), "began_s": began_s, "ended_s": time.time(), "made": made is not None, **answer}
    if device is not None:
        head["observed"] = device.get("observed")
    return json.dumps(head).encode() + b"\n" + (made or b"")


def work(agent: Agent, order: Message, files: Dict[str, bytes]) -> Tuple[Optional[Message], Message, Optional[bytes]]:
    """(the device, the answer, the file that was made, which may be empty)"""
    if agent.refusal:
        return None, {"error": {"kind": "target", "message": agent.refusal}}, None
    if order["verb"] in ("about", "clean"):
        answer, _ = agent.ask(order["verb"], {})
        return None, part_of(answer), None
    device, _ = agent.ask("device", {})
    if "error" in device or order["verb"] == "device":
        return device.get("result"), part_of(device), None
    found = device["result"]
    expected = order["expected"] or {}
    if any(found.get(name) != content for name, content in expected.items()):
        return found, {"other": {name: found.get(name) for name in expected}}, None
    arguments = dict(order["arguments"])
    for name, file in order["sent"].items():
        kept, _ = agent.ask("have", file)
        if "error" not in kept and not kept["result"]["path"]:
            kept, _ = agent.ask("store", file, files[file["sha256"]])
        if "error" in kept:
            return found, part_of(kept), None
        arguments[name] = kept["result"]["path"]
    session, _ = agent.ask("session", {})
    if order["made"]:
        arguments[order["made"]] = session["result"]["folder"] + "/" + Path(arguments[order["made"]]).name
    answer, _ = agent.ask(order["verb"], arguments)
    if "error" in answer or not order["made"]:
        return found, part_of(answer), None
    told, made = agent.ask("fetch", {"path": arguments[order["made"]]})
    if "error" in told:  # nothing was made: the result says why
        return found, part_of(answer), None
    if hashlib.sha256(made).hexdigest() != told["result"]["sha256"]:
        raise RuntimeError("What the agent made arrived damaged.")
    return found, part_of(answer), made


def part_of(message: Message) -> Message:
    return {part: message[part] for part in ("result", "error") if part in message}


class Agent:
    """The agent as a child process. `check` raises where nobody waits any more; `show` passes an event on. `refusal`:
    why it could not become the agent."""

    def __init__(
        self, order: Message, archive: bytes, check: Callable[[], None], show: Callable[[Message], None]
    ) -> None:
        self._order = order
        self._check = check
        self._show = show
        self._number = 0
        self._buffer = b""
        self._heard = self._beaten = time.monotonic()
        self._begun = False  # before that, what it reads is not the agent's
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in `end`
        self._process = subprocess.Popen(
            [sys.executable, "-c", order["bootstrap"]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0, start_new_session=True,
        )  # fmt: skip
        try:
            self._write(json.dumps(order["asked"]).encode() + b"\n")
            told = self._message()
            if told.get("have") is False:
                self._write(archive)
                told = self._message()
        except BaseException:
            self.end()
            raise
        self._begun = True
        self.refusal = str(told.get("error") or "")

    def ask(self, verb: str, arguments: Message, payload: bytes = b"") -> Tuple[Message, bytes]:
        """The last line of its answer, and the file before it."""
        self._number += 1
        request = {"id": self._number, "verb": verb, **self._order["setting"], "silence_s": self._order["silence_s"]}
        head = {**request, "arguments": arguments, **({"payload": len(payload)} if payload else {})}
        self._write(json.dumps(head).encode() + b"\n")
        self._write(payload)
        made = b""
        while True:
            message = self._message()
            if message.get("id") != self._number:
                raise RuntimeError("The agent answered something else than it was asked.")
            if "payload" in message:
                made = self._take(message["payload"])
            elif "event" not in message:
                return message, made
            elif "waiting_for" in message["event"]:
                self._show({"waiting_for": message["event"]["waiting_for"]})

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what is left of its session
            self._process.wait()
            self._process.stdout.close()
            self._errors.close()

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._process.stdin.write(view[:BLOCK]) or 0 :]
                self._tick()
        except BrokenPipeError:
            raise RuntimeError(self._ended()) from None

    def _message(self) -> Message:
        while b"\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: Message = json.loads(line)
        return found

    def _take(self, size: int) -> bytes:
        parts = [self._buffer[:size]]
        self._buffer = self._buffer[size:]
        left = size - len(parts[0])
        while left:
            self._more()
            parts.append(self._buffer[:left])
            self._buffer = self._buffer[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    def _more(self) -> None:
        assert self._process.stdout is not None
        while not select.select([self._process.stdout], [], [], 0.5)[0]:
            self._tick()
            if time.monotonic() - self._heard > SILENCE_S:
                raise RuntimeError("The agent said nothing for %.0f s." % SILENCE_S)
        data = os.read(self._process.stdout.fileno(), BLOCK)
        if not data:
            raise RuntimeError(self._ended())
        self._heard = time.monotonic()
        self._buffer += data
        self._tick()

    def _tick(self) -> None:
        """Both sides hear that this lives, when it is time."""
        self._check()
        if time.monotonic() - self._beaten < HEARTBEAT_S:
            return
        self._beaten = time.monotonic()
        self._show({})
        if self._begun:
            assert self._process.stdin is not None
            self._process.stdin.write(b"\n")

    def _ended(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        said = " ".join(self._errors.read().decode(errors="replace").split())[-200:]
        return "The agent has ended (status %d)." % status + (" It said: " + said if said else "")
