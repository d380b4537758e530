"""An agent that runs here and has a phone's shell do the work: for phones without Python (host side).

It speaks what `targets.agent` speaks, so that nothing above knows the difference: requests on standard input, answers
on standard output, files in a folder that it shares with its host. A runtime's own benchmark is what runs on the phone
and what tells the time.

    python -m targets.adb.agent FOLDER '{"name", "serial", "binary", "folder"}'
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from targets.adb import sessions
from targets.adb.benchmark import Benchmark, Feeds, install, refuse_other_options
from targets.adb.client import Adb
from targets.adb.facts import State, choose_cores, compare, fingerprint, mask_of, read_facts, read_state
from targets.adb.lease import PhoneLease
from targets.adb.phone import Phone
from targets.agent import setting_of
from targets.channel import digest
from targets.errors import BadInput, TargetError
from targets.feeds import random_feeds, read_tensors, write_tensors
from targets.host import HEARTBEAT_S, Host, HostGone
from targets.lease import holder_name
from targets.pairing import GAUGE_RUNS
from targets.protocol import claim_stdout, error_of, send
from targets.timing import FULL, QUICK

VERBS = ("device", "describe", "build", "run", "time", "profile")

ROUNDS, ROUNDS_OF_MEANS = 3, 8  # of a profile: as often plain runs, profiled runs and the gauge follow each other
WARM_UP_NS, WARM_UP_RUNS = 100_000_000, 3  # of each of its processes
MOST_WARM_UPS = 300  # every run of a profiled process leaves a line for each kernel


class Service:
    """Answers a host's requests one after the other."""

    def __init__(self, host: Host, folder: Path, asked: Mapping[str, str]) -> None:
        self._host = host
        self._folder = folder
        self._binary = asked["binary"]
        self._number: Any = None
        self._told = 0.0
        self._runs_ns: dict[tuple[str, str], float] = {}
        self.adb = Adb(asked["name"], asked["serial"], self._alive)
        self.phone = Phone(self.adb, asked["folder"], holder_name())
        self._lease = PhoneLease(self.adb, self.phone.token, holder_name())
        self._facts = read_facts(self.adb)
        self._benchmarks: dict[str, tuple[Benchmark, list[int]]] = {}

    def serve(self) -> None:
        while True:
            request = self._host.next_request()
            self._number = request["id"]
            try:
                answer = {"result": self._work(request)}
            except (BadInput, TargetError, OSError, ValueError, KeyError, TypeError) as failure:
                answer = {"error": error_of(failure)}
            except HostGone:
                self.adb.let_go()
                raise
            finally:
                self._lease.release()
            send(self._host.answers, {"id": self._number, **answer})

    def close(self) -> None:
        self._lease.release()
        self.phone.close()

    def device(self, benchmark: Benchmark, cores: list[int], threads: int) -> dict[str, Any]:
        state = read_state(self.adb)
        found = fingerprint(self._facts, state, benchmark.stack(), threads, bool(cores))
        return {**found, "reads": benchmark.reads()._asdict()}

    def time(
        self,
        benchmark: Benchmark,
        cores: list[int],
        model: str,
        shapes: Mapping[str, list[int]],
        quick: bool,
        limit_s: float,
    ) -> dict[str, Any]:
        path, protocol = Path(model), QUICK if quick else FULL
        feeds = random_feeds(benchmark.inputs(path), shapes)
        run_ns = self._run_ns(benchmark, path, feeds, limit_s)
        before = read_state(self.adb)
        take = sessions.single_runs if benchmark.single_runs else sessions.means
        session = take(lambda runs: benchmark.time(path, feeds, runs, limit_s), protocol, run_ns)
        return self._judged(session, before, cores)

    def profile(
        self,
        benchmark: Benchmark,
        cores: list[int],
        asked: Mapping[str, Any],
        limit_s: float,
    ) -> dict[str, Any]:
        """Plain runs, profiled runs and the gauge in processes of their own, one after the other, in several rounds."""
        model, graph = Path(asked["model"]), Path(asked["graph"])
        feeds = random_feeds(benchmark.inputs(model), asked["shapes"])
        run_ns = self._run_ns(benchmark, model, feeds, limit_s)
        warm = min(MOST_WARM_UPS, max(WARM_UP_RUNS, round(WARM_UP_NS / run_ns)))
        rounds = ROUNDS if benchmark.single_runs else ROUNDS_OF_MEANS
        runs = -(-int(asked["runs"]) // rounds)
        before = read_state(self.adb)
        plain_ns: list[int] = []
        gauge_ns: list[int] = []
        kernels: list[dict[str, Any]] | None = None
        for number in range(rounds):
            if not asked["kernels_only"]:
                plain_ns += benchmark.time(model, feeds, warm + runs, limit_s)[-runs:]
            found = benchmark.profile(model, feeds, warm + runs, graph, limit_s)
            if found is None and asked["kernels_only"]:
                raise TargetError("With these options the runtime tells no kernel times. Profile whole networks on it.")
            kernels = found and joined(kernels if number else [], found, runs)
            if asked["gauge"]:
                gauge_ns += self._gauge(benchmark, Path(asked["gauge"]), runs * GAUGE_RUNS, limit_s)
        session = sessions.session(
            plain_ns,
            warm * rounds,
            ["Plain and profiled runs were in processes of their own, not in turns."],
            FULL,
        )
        judged = self._judged({**session, "protocol": "in processes"}, before, cores)
        return {"end_to_end": judged, "gauge_ns": gauge_ns, "kernels": kernels, "graph": str(graph)}

    def _gauge(self, benchmark: Benchmark, path: Path, runs: int, limit_s: float) -> list[int]:
        feeds = random_feeds(benchmark.inputs(path), {})
        return benchmark.time(path, feeds, WARM_UP_RUNS + runs, limit_s)[-runs:]

    def _work(self, request: Mapping[str, Any]) -> Any:
        verb, arguments = request.get("verb"), request["arguments"]
        if verb not in VERBS:
            raise BadInput(f"The agent knows no verb {verb!r}. It has: {', '.join(VERBS)}.")
        setting = setting_of(dict(request))
        limit_s = float(request.get("silence_s", 600.0))
        if verb != "device":
            self._lease.take(self._waiting)
        benchmark, cores = self._benchmark(setting)
        if verb == "device":
            return self.device(benchmark, cores, setting["threads"])
        if verb == "describe":
            return benchmark.inputs(Path(arguments["model"]))
        if verb == "build":
            benchmark.build(Path(arguments["model"]), Path(arguments["output"]))
            return {"output": arguments["output"]}
        if verb == "run":
            outputs = benchmark.run(Path(arguments["model"]), read_tensors(arguments["feeds"]), limit_s)
            return {"output": arguments["output"], "names": write_tensors(arguments["output"], outputs)}
        if verb == "time":
            return self.time(benchmark, cores, arguments["model"], arguments["shapes"], arguments["quick"], limit_s)
        return self.profile(benchmark, cores, arguments, limit_s)

    def _benchmark(self, setting: Mapping[str, Any]) -> tuple[Benchmark, list[int]]:
        """The benchmark, and the cores that it is held on."""
        key = json.dumps(setting, sort_keys=True)
        if key not in self._benchmarks:
            refuse_other_options(setting["options"], setting["name"])
            count = len(self._facts.capacities)
            if not 1 <= setting["threads"] <= max(count, 1):
                raise BadInput(
                    f"The target asks for {setting['threads']} threads; this phone offers 1 to {count}. Change threads."
                )
            cores = choose_cores(self._facts, setting["threads"])
            mask = mask_of(cores)
            if not self.phone.pins(mask):
                cores, mask = [], ""
            made = install(setting["name"], self._binary, self.phone, setting["threads"], mask, self._folder)
            self._benchmarks[key] = made, cores
        return self._benchmarks[key]

    def _run_ns(self, benchmark: Benchmark, path: Path, feeds: Feeds, limit_s: float) -> float:
        """About how long a run takes, by a first process."""
        key = (digest(path), json.dumps([[name, list(values.shape)] for name, values in feeds.items()]))
        if key not in self._runs_ns:
            self._runs_ns[key] = min(benchmark.time(path, feeds, sessions.TRIAL_RUNS, limit_s))
        return self._runs_ns[key]

    def _judged(self, session: Mapping[str, Any], before: State, cores: list[int]) -> dict[str, Any]:
        """With what the phone says of disturbances; and only if the phone was ours all the time."""
        self._lease.renew()
        doubts, voided = compare(before, read_state(self.adb), cores)
        return {**session, "doubts": [*session["doubts"], *doubts], "voided": [*session["voided"], *voided]}

    def _alive(self) -> None:
        """While a command takes its time on the phone: is the host there, and does it know that we are?"""
        self._host.check()
        if self._number is not None and time.monotonic() - self._told > HEARTBEAT_S:
            self._told = time.monotonic()
            send(self._host.answers, {"id": self._number, "event": {"alive": True}})

    def _waiting(self, holder: str) -> None:
        self._host.check()
        if time.monotonic() - self._told > HEARTBEAT_S:
            self._told = time.monotonic()
            send(self._host.answers, {"id": self._number, "event": {"waiting_for": holder}})


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


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    answers, folder = claim_stdout(), sys.argv[1]
    with Path(folder, "printed.log").open("wb") as log:
        os.dup2(log.fileno(), 1)  # converters talk
    host = Host(0, answers)
    service = None
    try:
        try:
            service = Service(host, Path(folder), json.loads(sys.argv[2]))
        except TargetError as failure:
            request = host.next_request()
            send(answers, {"id": request["id"], "error": error_of(failure)})
            return
        service.serve()
    except (HostGone, BrokenPipeError):
        pass
    finally:
        if service is not None:
            end(service)
        shutil.rmtree(folder, ignore_errors=True)


def end(service: Service) -> None:
    """The phone may be gone, and the host is: nobody is told."""
    service.adb.let_go()
    with contextlib.suppress(TargetError):  # its folder over there goes when another agent finds it a day old
        service.close()


if __name__ == "__main__":
    main()
