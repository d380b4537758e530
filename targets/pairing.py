"""Plain runs, profiled runs and a gauge, taking turns in one process (device side).

On a machine that is shared, the speed of a core wanders by several per cent within a second, load or no load. What
takes turns within tenths of a second meets the same speed: ratios of turns stand still where times do not. The gauge
is a small network, always the same one, that tells how fast the device was in each turn.
"""

from __future__ import annotations

import time
from typing import Any, Callable, NamedTuple

from targets.timing import MAX_WARM_UP_NS, timed

VERSION = 1  # raise it when a change here changes what a sample means: it is part of every profiled timing's key

TURN_NS = 30_000_000  # of one side: long against the switch between networks, short against the wandering
LONGEST_TURN = 8  # runs
FEWEST_SETTLED = 3  # from so many runs a turn on, its first one, which finds the other network's caches, is left out
GAUGE_RUNS = 3
WARM_UP_NS = 100_000_000
SAMPLE_NS = 1_000_000_000
FEWEST_TURNS = 8
MOST_TURNS = 40


class Turns(NamedTuple):
    """`plain_ns`: one time a kept run; `kept`: which of the profiled runs count, turn after turn, equally many in each;
    `gauge_ns`: GAUGE_RUNS times a turn (empty without a gauge)."""

    plain_ns: list[int]
    kept: list[int]
    gauge_ns: list[int]
    warm_ups: int


def take_turns(
    plain: Callable[[], object] | None,
    profiled: Callable[[], object] | None,
    gauge: Callable[[], object] | None,
    runs: int,
    on_progress: Callable[[dict[str, Any]], None],
) -> Turns:
    """At least `runs` runs a side that count, in at least FEWEST_TURNS turns and SAMPLE_NS, whichever is most; never
    more than MOST_TURNS turns unless `runs` asks for them. Fewer runs than FEWEST_TURNS are taken at their word: one
    a turn. A side that is None does not run; one of `plain` and `profiled` has to."""
    sides = [side for side in (gauge, plain, profiled) if side is not None]
    judge = plain or profiled
    assert judge is not None
    warm_ups, run_ns = warm_up(sides, judge)
    length = max(1, min(LONGEST_TURN, round(TURN_NS / run_ns)))
    left_out = 1 if length >= FEWEST_SETTLED else 0
    turns = max(FEWEST_TURNS, -(-runs // length))
    shortest_ns = SAMPLE_NS
    if runs < FEWEST_TURNS:
        length, left_out, turns, shortest_ns = 1, 0, runs, 0
    plain_ns: list[int] = []
    gauge_ns: list[int] = []
    done, begin = 0, time.perf_counter_ns()
    while done < turns or (done < MOST_TURNS and time.perf_counter_ns() - begin < shortest_ns):
        if gauge is not None:
            gauge_ns += [timed(gauge) for _ in range(GAUGE_RUNS)]
        if plain is not None:
            plain_ns += [timed(plain) for _ in range(left_out + length)][left_out:]
        if profiled is not None:
            for _ in range(left_out + length):
                profiled()
        done += 1
        on_progress({"stage": "profile", "turns": done})
    whole = left_out + length
    kept = [warm_ups + turn * whole + run for turn in range(done) for run in range(left_out, whole)]
    return Turns(plain_ns, kept, gauge_ns, warm_ups)


def warm_up(sides: list[Callable[[], object]], judge: Callable[[], object]) -> tuple[int, int]:
    """(runs of each side, the fastest run of `judge` in ns)."""
    runs, fastest, begin = 0, 0, time.perf_counter_ns()
    while True:
        for side in sides:
            taken = timed(side)
            if side is judge:
                fastest = min(fastest or taken, taken)
        runs += 1
        spent = time.perf_counter_ns() - begin
        if (runs >= 3 and spent >= WARM_UP_NS) or spent >= MAX_WARM_UP_NS:
            return runs, max(fastest, 1)
