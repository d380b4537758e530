"""The only timing loop (device side): warm up until the runs agree, then sample, with the speed probe between runs."""

from __future__ import annotations

import gc
import time
from typing import Any, Callable, NamedTuple

from targets.conditions import Observation
from targets.conditions.source import Place
from targets.speed import EVERY_NS, read_speed
from targets.watch import Watch

VERSION = 1  # raise it when a change here changes what a sample means: it is part of every timing's key

WINDOW = 10  # runs whose median is compared with that of the window before
AGREEMENT = 0.02  # relative difference of two windows' medians that counts as warm
MAX_WARM_UP_RUNS = 300  # after the shortest warm-up; past this the clocks are drifting, not warming
MAX_WARM_UP_NS = 30_000_000_000  # a model with seconds a run would warm up for minutes
MIN_RUNS = 3  # whatever one run takes
PROGRESS_NS = 5_000_000_000  # between signs of life; they are sent between runs, never inside one
DRIFT = 0.10  # between the medians of a session's first and last third; undisturbed: 1 % mostly, 6 % in one of ten
MIN_RUNS_FOR_DRIFT = 15  # five a third: the medians of fewer differ by chance


class Protocol(NamedTuple):
    """How long to warm up and to sample. Sampling lasts for `runs` or `sample_ns`, whichever is longer, up to
    `longest_ns`; `settle` asks that two windows agree before it begins."""

    name: str
    warm_up_ns: int
    warm_up_runs: int
    settle: bool
    runs: int
    sample_ns: int
    longest_ns: int


FULL = Protocol("full", 200_000_000, 10, True, 64, 1_000_000_000, 10_000_000_000)
QUICK = Protocol("quick", 100_000_000, 3, False, 20, 200_000_000, 2_000_000_000)


def take_session(
    run: Callable[[], object], protocol: Protocol, place: Place, on_progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Time `run` in this process: `samples_ns` (one integer a run), `probes_ns` (readings of the speed probe, taken
    before, between and after the runs), `warm_ups`, `doubts`, `voided` (sentences; a voided session was disturbed and
    should be repeated), `protocol`, `conditions` (see `targets.conditions.Seen`; read before the warm-up and after the
    runs, where it costs the samples nothing). `place`: where the session runs."""
    collecting = gc.isenabled()
    gc.disable()  # a collection inside a run would be timed as the model's
    try:
        observation = Observation(place)
        warm_ups, doubts = warm_up(run, protocol, on_progress)
        on_progress({"stage": "sample"})
        watch = Watch(list(place.cores))
        samples, probes = sample(run, protocol, on_progress)
        disturbed, voided = watch.stop()
        seen = observation.end()
    finally:
        if collecting:
            gc.enable()
    return {
        "samples_ns": samples,
        "probes_ns": probes,
        "warm_ups": warm_ups,
        "doubts": doubts + disturbed + list(seen.doubts) + drift(samples),
        "voided": voided + list(seen.voided),
        "protocol": protocol.name,
        "conditions": seen.document,
    }


def warm_up(
    run: Callable[[], object], protocol: Protocol, on_progress: Callable[[dict[str, Any]], None]
) -> tuple[int, list[str]]:
    taken: list[int] = []
    unsettled = 0
    begin = told = time.perf_counter_ns()
    while True:
        taken.append(timed(run))
        now = time.perf_counter_ns()
        if now - told > PROGRESS_NS:
            told = now
            on_progress({"stage": "warm-up", "runs": len(taken)})
        spent = now - begin
        if len(taken) >= protocol.warm_up_runs and spent >= protocol.warm_up_ns:
            if not protocol.settle or agree(taken):
                return len(taken), []
            unsettled += 1
            if unsettled >= MAX_WARM_UP_RUNS:
                return len(taken), [f"Run times had not settled within 2 % after {len(taken)} warm-up runs."]
        if spent >= MAX_WARM_UP_NS:
            return len(taken), [f"Warm-up was ended after {spent / 1e9:.0f} s and {len(taken)} runs, not settled."]


def agree(taken: list[int]) -> bool:
    if len(taken) < 2 * WINDOW:
        return False
    last, before = median(taken[-WINDOW:]), median(taken[-2 * WINDOW : -WINDOW])
    return abs(last - before) <= AGREEMENT * before


def sample(
    run: Callable[[], object], protocol: Protocol, on_progress: Callable[[dict[str, Any]], None]
) -> tuple[list[int], list[int]]:
    """(runs, readings of the speed probe). A reading stands between two runs, never inside one, and touches 8 KiB."""
    samples: list[int] = []
    probes = [read_speed()]
    begin = told = probed = time.perf_counter_ns()
    while True:
        samples.append(timed(run))
        now = time.perf_counter_ns()
        if now - told > PROGRESS_NS:
            told = now
            on_progress({"stage": "sample", "runs": len(samples)})
        spent = now - begin
        enough = len(samples) >= protocol.runs and spent >= protocol.sample_ns
        if enough or (spent >= protocol.longest_ns and len(samples) >= MIN_RUNS):
            return samples, [*probes, read_speed()]
        if now - probed >= EVERY_NS:
            probed = now
            probes.append(read_speed())


def drift(samples: list[int]) -> list[str]:
    """A doubt where a session's first and last third differ. Never a reason to void: that would choose sessions by
    the very times that they are there to tell."""
    third = len(samples) // 3
    if len(samples) < MIN_RUNS_FOR_DRIFT:
        return []
    first, last = median(samples[:third]), median(samples[-third:])
    if abs(last - first) <= DRIFT * first:
        return []
    change = f"{abs(last / first - 1):.0%} {'longer' if last > first else 'less'}"
    return [f"Runs drifted: the last third took {change} than the first."]


def timed(run: Callable[[], object]) -> int:
    begin = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - begin


def median(values: list[int]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
