"""What an agent can be asked to do with a phone that has a runtime's benchmark (host side)."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from targets.adb import sessions
from targets.adb.benchmark import Benchmark, Feeds, install, refuse_other_options
from targets.adb.facts import State, choose_cores, compare, fingerprint, mask_of, read_facts, read_state
from targets.adb.phone import Phone
from targets.adb.snapshot import Snapshot
from targets.channel import digest
from targets.conditions.cooling import cool
from targets.errors import NoKernelTimes, TargetError
from targets.feeds import random_feeds, read_tensors, write_tensors
from targets.pairing import GAUGE_RUNS
from targets.timing import FULL, QUICK

ROUNDS, ROUNDS_OF_MEANS = 3, 8  # of a profile: as often plain runs, profiled runs and the gauge follow each other
WARM_UP_NS, WARM_UP_RUNS = 100_000_000, 3  # of each of its processes
MOST_WARM_UPS = 300  # every run of a profiled process leaves a line for each kernel
APART = "Plain and profiled runs were in processes of their own, not in turns within one."

Progress = Callable[[dict[str, Any]], None]


class Verbs:
    """For one program, on as many of the phone's cores as `setting` asks for. Each takes JSON-able arguments and
    returns a JSON-able result. `limit_s`: of one process there; set for each request, like `progress`."""

    def __init__(self, phone: Phone, binary: str, setting: Mapping[str, Any], folder: Path) -> None:
        """`folder`: for our own files here."""
        refuse_other_options(setting["options"], setting["name"])
        self._snapshot = Snapshot(phone.adb, folder / "phone")
        self._snapshot.take()
        self._cores = choose_cores(self._snapshot.root, setting["threads"], setting["cores"])
        if not phone.pins(mask_of(self._cores)):
            self._cores = []
        self._threads = setting["threads"]
        self._facts = read_facts(phone.adb)
        mask = mask_of(self._cores)
        self._benchmark: Benchmark = install(setting["name"], binary, phone, self._threads, mask, folder)
        self._runs_ns: dict[tuple[str, str], float] = {}
        self.limit_s = 0.0
        self.progress: Progress = lambda event: None

    def device(self) -> dict[str, Any]:
        state, stack = self._state(), self._benchmark.stack()
        found = fingerprint(self._facts, self._snapshot.root, state, stack, self._threads, self._cores)
        return {**found, "reads": self._benchmark.reads()._asdict()}

    def cool(self) -> dict[str, Any]:
        def sleep(seconds: float) -> None:
            time.sleep(seconds)
            self._snapshot.take()

        self._snapshot.take()
        return cool(self._snapshot.place(self._cores), self.progress, sleep)

    def describe(self, model: str) -> list[dict[str, Any]]:
        return self._benchmark.inputs(Path(model))

    def build(self, model: str, output: str, optimise: bool) -> dict[str, Any]:
        self._benchmark.build(Path(model), Path(output))
        return {"output": output}

    def run(self, model: str, feeds: str, output: str, optimise: bool) -> dict[str, Any]:
        outputs = self._benchmark.run(Path(model), read_tensors(feeds), self.limit_s)
        return {"output": output, "names": write_tensors(output, outputs)}

    def time(self, model: str, shapes: dict[str, list[int]], quick: bool) -> dict[str, Any]:
        path, protocol = Path(model), QUICK if quick else FULL
        feeds = random_feeds(self._benchmark.inputs(path), shapes)
        run_ns = self._run_ns(path, feeds)
        before = self._state()
        take = sessions.single_runs if self._benchmark.single_runs else sessions.means
        return self._judged(take(lambda runs: self._time(path, feeds, runs), protocol, run_ns), before)

    def profile(
        self, model: str, shapes: dict[str, list[int]], runs: int, graph: str, gauge: str | None, kernels_only: bool
    ) -> dict[str, Any]:
        """Plain runs, profiled runs and the gauge in processes of their own, one after the other, in several rounds."""
        path = Path(model)
        feeds = random_feeds(self._benchmark.inputs(path), shapes)
        warm = min(MOST_WARM_UPS, max(WARM_UP_RUNS, round(WARM_UP_NS / self._run_ns(path, feeds))))
        rounds = ROUNDS if self._benchmark.single_runs else ROUNDS_OF_MEANS
        each = -(-runs // rounds)
        before = self._state()
        plain_ns: list[int] = []
        gauge_ns: list[int] = []
        kernels: list[dict[str, Any]] | None = None
        for number in range(rounds):
            self.progress({"stage": "profile", "round": number})
            if not kernels_only:
                plain_ns += self._time(path, feeds, warm + each)[-each:]
            found = self._benchmark.profile(path, feeds, warm + each, Path(graph), self.limit_s)
            if found is None and kernels_only:
                raise NoKernelTimes(
                    "With these options the runtime tells no kernel times. Profile whole networks on it."
                )
            kernels = found and joined(kernels if number else [], found, each)
            if gauge:
                steady = random_feeds(self._benchmark.inputs(Path(gauge)), {})
                gauge_ns += self._time(Path(gauge), steady, WARM_UP_RUNS + each * GAUGE_RUNS)[-each * GAUGE_RUNS :]
        session = sessions.session(plain_ns, warm * rounds, [APART], "in turns")
        return {
            "end_to_end": self._judged(session, before),
            "gauge_ns": gauge_ns,
            "kernels": kernels,
            "graph": graph,
        }

    def _time(self, path: Path, feeds: Feeds, runs: int) -> list[int]:
        return self._benchmark.time(path, feeds, runs, self.limit_s)

    def _run_ns(self, path: Path, feeds: Feeds) -> float:
        """About how long a run takes, by a first process."""
        key = (digest(path), json.dumps([[name, list(values.shape)] for name, values in feeds.items()]))
        if key not in self._runs_ns:
            self._runs_ns[key] = min(self._time(path, feeds, sessions.TRIAL_RUNS))
        return self._runs_ns[key]

    def _state(self) -> State:
        return read_state(self._snapshot, self._cores)

    def _judged(self, session: Mapping[str, Any], before: State) -> dict[str, Any]:
        """With what the phone says of disturbances."""
        found = compare(before, self._state(), self._cores)
        return {**session, **found, "doubts": [*session["doubts"], *found["doubts"]]}


def joined(before: list[dict[str, Any]] | None, found: list[dict[str, Any]], runs: int) -> list[dict[str, Any]]:
    """The kernels of one more process, of which the last `runs` count, behind those before."""
    kept = [{**kernel, "samples_ns": kernel["samples_ns"][-runs:]} for kernel in found]
    if not before:
        return kept
    if [kernel["name"] for kernel in before] != [kernel["name"] for kernel in kept]:
        raise TargetError("Two processes on the phone ran the network as different kernels. Profile again.")
    return [
        {**first, "samples_ns": [*first["samples_ns"], *second["samples_ns"]]}
        for first, second in zip(before, kept, strict=True)
    ]
