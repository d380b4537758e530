"""The host's end of the agent's two pipes: requests, the bytes that may follow one, and whether anybody is still there
(device side)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import time
from typing import Any, Iterator, TextIO

from targets.protocol import send

HEARTBEAT_S = 5.0  # how often host and agent show each other that they live


class HostGone(Exception):
    """Nobody waits for the answer: standard input closed, or nothing came and nothing was taken for too long."""


class Host:
    """The host's end of the two pipes."""

    def __init__(self, stdin: int, answers: TextIO, patience_s: float = math.inf) -> None:
        """`patience_s`: a host that says nothing for so long is gone, wherever its end of the line is."""
        self.stdin = stdin
        self.answers = answers
        self._patience_s = patience_s
        self._heard = self._shown = time.monotonic()
        self._buffer = b""

    def read(self) -> None:
        """Take what has come; blocks when nothing has. `HostGone` at the end of the stream."""
        data = os.read(self.stdin, 1 << 16)
        if not data:
            raise HostGone
        self._heard = time.monotonic()
        self._buffer += data

    def check(self, wait_s: float = 0.0) -> None:
        """Take what comes within `wait_s`. `HostGone` when it has hung up, or has been silent for too long."""
        if select.select([self.stdin], [], [], wait_s)[0]:
            self.read()
        elif time.monotonic() - self._heard > self._patience_s:
            raise HostGone

    def next_request(self) -> dict[str, Any]:
        while b"\n" not in self._buffer.lstrip(b"\n"):  # empty lines say that it lives, and nothing else
            self.check(HEARTBEAT_S)
        self._buffer = self._buffer.lstrip(b"\n")
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def take(self, most: int) -> bytes:
        """Some of the bytes that follow a request."""
        while not self._buffer:
            self.check(HEARTBEAT_S)
        block, self._buffer = self._buffer[:most], self._buffer[most:]
        return block

    def send(self, message: dict[str, Any]) -> None:
        """One line. `HostGone` where it is not taken for as long as a host may be silent."""
        with self._limited():
            send(self.answers, message)

    def send_file(self, head: dict[str, Any], blocks: Iterator[bytes]) -> None:
        """A line, and the bytes that it announces."""
        self.send(head)
        for block in blocks:
            with self._limited():
                self.answers.buffer.write(block)
                self.answers.buffer.flush()

    def alive(self, number: int) -> None:
        """A sign of life for the request of that number, where one is due, while no worker gives any."""
        self.check()
        if time.monotonic() - self._shown > HEARTBEAT_S:
            self._shown = time.monotonic()
            self.send({"id": number, "event": {"alive": True}})

    @contextlib.contextmanager
    def _limited(self) -> Iterator[None]:
        """A dead line takes what fits into its buffers; what is written then waits until the kernel gives it up."""
        if math.isinf(self._patience_s):
            yield
            return

        def gone(number: int, frame: Any) -> None:
            raise HostGone

        before = signal.signal(signal.SIGALRM, gone)
        signal.setitimer(signal.ITIMER_REAL, self._patience_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
