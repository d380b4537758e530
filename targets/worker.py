"""What the agent starts for a request: the one process in which a runtime is imported (device side).

It ends as soon as its standard input closes, and dies with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import queue
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Iterator, TextIO

from targets import conditions, probe
from targets.conditions import Observation
from targets.conditions.cooling import cool
from targets.conditions.source import Place
from targets.errors import NoKernelTimes, TargetError
from targets.load import pin
from targets.pairing import take_turns
from targets.protocol import claim_stdout, error_of, send
from targets.runtimes import Loaded, Runtime, open_runtime
from targets.stream import copied
from targets.timing import FULL, QUICK, take_session
from targets.watch import Watch

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


class Verbs:
    """The verbs that need a runtime; each takes JSON-able arguments and returns a JSON-able result."""

    def __init__(self, runtime: Runtime, cores: list[int], pinned: bool) -> None:
        self._runtime = runtime
        self._cores = cores
        self._pinned = pinned
        self._place = Place(tuple(cores), runtime.gpu)
        self.progress: Callable[[dict[str, Any]], None] = lambda event: None  # set for each request
        self._loaded: tuple[object, Loaded] | None = None

    def device(self) -> dict[str, Any]:
        runtime = self._runtime
        found = probe.device(runtime.stack(), threads=runtime.threads, pinned=self._pinned, cores=self._cores)
        now = conditions.read(self._place)
        lock = conditions.lock_of(now)._asdict()
        return {**found, "reads": runtime.reads()._asdict(), "conditions": now, "lock": lock}

    def cool(self) -> dict[str, Any]:
        return cool(self._place, self.progress)

    def describe(self, model: str) -> list[dict[str, Any]]:
        return self._load(model, optimise=False).inputs()

    def build(self, model: str, output: str, optimise: bool) -> dict[str, Any]:
        with room_for(output, of=model):
            self._runtime.build(model, output, optimise)
        return {"output": output}

    def run(self, model: str, feeds: str, output: str, optimise: bool) -> dict[str, Any]:
        from targets.feeds import read_tensors, write_tensors  # numpy: only where a runtime was found

        names = write_tensors(output, self._load(model, optimise).run(read_tensors(feeds)))
        return {"output": output, "names": names}

    def time(self, model: str, shapes: dict[str, list[int]], quick: bool) -> dict[str, Any]:
        run = self._load(model, optimise=True).runner(shapes)
        return take_session(run, QUICK if quick else FULL, self._place, self.progress)

    def profile(
        self, model: str, shapes: dict[str, list[int]], runs: int, graph: str, gauge: str | None, kernels_only: bool
    ) -> dict[str, Any]:
        plain = None if kernels_only else self._load(model, optimise=True).runner(shapes)
        steady = self._runtime.load(gauge, optimise=True).runner({}) if gauge else None
        self.progress({"stage": "profile"})
        observation, watch = Observation(self._place), Watch(self._cores)
        profiled = self._runtime.profiled(model, shapes, graph)
        if kernels_only and profiled is None:
            raise NoKernelTimes("With these options the runtime tells no kernel times. Profile whole networks on it.")
        # Before the warm-up and after the last turn: no run finds its caches swept. For kernels alone nothing reads it.
        stream_ns = [] if kernels_only else copied()
        turns = take_turns(plain, profiled.run if profiled else None, steady, runs, self.progress)
        stream_ns += [] if kernels_only else copied()
        doubts, voided = watch.stop()
        seen = observation.end()
        end_to_end = {
            "samples_ns": turns.plain_ns,
            "warm_ups": turns.warm_ups,
            "doubts": doubts + list(seen.doubts),
            "voided": voided + list(seen.voided),
            "protocol": "in turns",
            "conditions": seen.document,
        }
        return {
            "end_to_end": end_to_end,
            "gauge_ns": turns.gauge_ns,
            "stream_ns": stream_ns,
            "kernels": profiled.kernels(turns.kept) if profiled else None,
            "graph": graph,
        }

    def _load(self, model: str, optimise: bool) -> Loaded:
        key = (model, Path(model).stat().st_mtime_ns, optimise)
        if self._loaded is None or self._loaded[0] != key:
            self.progress({"stage": "load"})
            self._loaded = None
            self._loaded = (key, self._runtime.load(model, optimise))
        return self._loaded[1]


def main(setting: dict[str, Any], cores: list[int]) -> None:
    """`setting`: the runtime's name, its threads and its options; `cores` has been used to choose them."""
    die_with_parent()
    answers = claim_stdout()
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=read_requests, args=(requests,), daemon=True).start()
    pinned = pin(cores)
    verbs: Verbs | None = None
    opened_with = {name: value for name, value in setting.items() if name != "cores"}
    while True:
        request = requests.get()
        say = functools.partial(answer, answers, request["id"])
        try:
            if verbs is None:
                verbs = Verbs(open_runtime(**opened_with), cores, pinned)
            verbs.progress = functools.partial(say, "event")
            say("result", getattr(verbs, request["verb"])(**request["arguments"]))  # the agent has checked the verb
        except Exception as failure:  # noqa: BLE001 -- the boundary of the process: all goes to the host, by kind
            say("error", error_of(failure))


@contextlib.contextmanager
def room_for(output: str, of: str) -> Iterator[None]:
    """A runtime whose file does not fit on the disk says anything but that. What failed leaves nothing."""
    try:
        yield
    except Exception as failure:
        free = shutil.disk_usage(str(Path(output).parent)).free
        with contextlib.suppress(OSError):
            Path(output).unlink()
        if free < Path(of).stat().st_size:
            raise TargetError(
                f"The disk there is full: {free / 2**20:.1f} MiB are left in {Path(output).parent}, too little for "
                f"what is made of {Path(of).name}. Free some, or give the target another folder."
            ) from failure
        raise


def answer(answers: TextIO, number: int, part: str, content: Any) -> None:
    send(answers, {"id": number, part: content})


def read_requests(requests: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)  # the agent is gone or done; a run that hangs inside the runtime must not hold the process


def die_with_parent() -> None:
    """Ask Linux for SIGKILL when the agent dies, however it dies. Elsewhere the closed pipe has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
