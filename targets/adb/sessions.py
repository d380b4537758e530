"""Sessions of a benchmark that runs in processes of its own: how many runs, which of them were warming up, and what a
sample stands for (host side)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from targets.timing import AGREEMENT, MIN_RUNS, WINDOW, Protocol, drift, median

TRIAL_RUNS = 5  # of a first process, which tells how long a run takes
MEANS = 5  # fresh processes of a session, where each tells but a mean
LONGEST_WARM_UP_NS = 5_000_000_000

Take = Callable[[int], list[int]]  # runs -> their times in ns, or the one mean of all


def single_runs(take: Take, protocol: Protocol, run_ns: float) -> dict[str, Any]:
    """A session of one process that tells every run. The first runs, until two windows of ten agree, are its warm-up.
    `run_ns`: about how long a run takes."""
    wanted = max(MIN_RUNS, min(max(protocol.runs, protocol.sample_ns / run_ns), protocol.longest_ns / run_ns))
    warm = max(2 * WINDOW, 1.5 * protocol.warm_up_ns / run_ns)
    warm = max(MIN_RUNS, min(warm, LONGEST_WARM_UP_NS / run_ns))
    times = take(math.ceil(wanted) + 2 * math.ceil(warm))
    first, doubts = warmed_up(times, math.ceil(warm), protocol)
    samples = times[first:]
    return session(samples, first, [*doubts, *drift(samples)], protocol.name)


def warmed_up(times: Sequence[int], most: int, protocol: Protocol) -> tuple[int, list[str]]:
    """(the first run that counts, doubts)."""
    spent = 0
    for number, taken in enumerate(times[: 2 * most], 1):
        spent += taken
        if number < 2 * WINDOW or spent < protocol.warm_up_ns:
            continue
        last, before = (
            median(list(times[number - WINDOW : number])),
            median(list(times[number - 2 * WINDOW : number - WINDOW])),
        )
        if abs(last - before) <= AGREEMENT * before or not protocol.settle:
            return number, []
    first = min(2 * most, max(0, len(times) - MIN_RUNS))
    if not protocol.settle:
        return first, []
    return first, [f"Run times had not settled within 2 % after {first} warm-up runs."]


def means(take: Take, protocol: Protocol, run_ns: float) -> dict[str, Any]:
    """A session of several processes that tell the mean of their runs, each a sample; what comes before them only warms
    the device up."""
    most_ns = min(max(protocol.sample_ns, protocol.runs * run_ns), protocol.longest_ns)
    runs = max(1, math.ceil(most_ns / MEANS / run_ns))
    warm_ups = max(1, math.ceil(protocol.warm_up_ns / run_ns))
    take(warm_ups)
    samples = [sample for _ in range(MEANS) for sample in take(runs)]
    doubt = f"Each sample is the mean of {runs} runs of a process of its own: this benchmark tells no single runs."
    return session(samples, warm_ups, [doubt], protocol.name)


def session(samples: Sequence[int], warm_ups: int, doubts: Sequence[str], protocol: str) -> dict[str, Any]:
    """As `targets.timing.take_session` gives it; there is no speed probe inside of somebody else's program."""
    return {
        "samples_ns": list(samples),
        "probes_ns": [],
        "warm_ups": warm_ups,
        "doubts": list(doubts),
        "voided": [],
        "protocol": protocol,
    }
