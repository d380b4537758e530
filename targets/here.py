"""The machine that this program runs on, asked without a host: a fresh worker for every question (device side).

One measurement at a time, whoever else asks: the device is leased meanwhile.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Mapping

from targets.host import Host
from targets.lease import Lease
from targets.load import choose_cores, read_cores
from targets.protocol import raise_error
from targets.workers import Worker

SILENCE_S = 600.0  # of a worker that loads, runs or times
BUILD_SILENCE_S = 7200.0  # small boards try out kernels for the better part of an hour, and say nothing meanwhile


class Here:
    """`folder`: the workers' own, for logs. Errors are those of `targets.connection.Connection`, in one line."""

    def __init__(
        self,
        folder: Path,
        runtime: str,
        threads: int,
        options: Mapping[str, Any],
        lease: Lease,
        on_wait: Callable[[str], None],
    ) -> None:
        """`on_wait(who has the device)` is called again and again until it is free."""
        self.runtime = runtime
        self._lease = lease
        self._on_wait = on_wait
        self._folder = str(folder)
        self._threads = threads
        self._setting = {"name": runtime, "threads": threads, "options": dict(options)}
        self._before = read_cores()
        # a host that never says anything and does not listen: the worker's own agent looks for one
        self._never, self._held = os.pipe()
        self._unheard = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 -- open as long as this is
        self._host = Host(self._never, self._unheard)

    def ask(self, verb: str, arguments: Mapping[str, Any]) -> Any:
        """The answer of a new process to one of `targets.worker.Verbs`."""
        if verb != "device":
            self._lease.take(self._on_wait)
        try:
            answer = self._answer(verb, arguments)
            self._lease.confirm()
        finally:
            self._lease.release()
            self._before = read_cores()
        if "error" in answer:
            raise_error(answer["error"])
        return answer["result"]

    def _answer(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        worker = Worker(self._folder, self._setting, choose_cores(self._threads, self._before))
        silence_s = BUILD_SILENCE_S if verb == "build" else SILENCE_S
        request = {"id": 1, "verb": verb, "arguments": dict(arguments), "silence_s": silence_s}
        try:
            return worker.ask(request, self._host, self._lease.show)
        finally:
            worker.close()

    def close(self) -> None:
        self._unheard.close()
        os.close(self._never)
        os.close(self._held)
