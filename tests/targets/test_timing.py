"""The timing loop, on a clock that the test moves: how long it warms up, how long it samples, what it doubts."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from targets import timing
from targets.conditions.source import Place
from targets.errors import BadInput
from targets.load import Core, choose_cores, read_cores
from targets.timing import FULL, QUICK, drift, take_session

MS = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def perf_counter_ns(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def run_of(clock: Clock, durations: Iterator[int]) -> Callable[[], None]:
    def run() -> None:
        clock.now += next(durations)

    return run


def constant(duration: int) -> Iterator[int]:
    while True:
        yield duration


def session(clock: Clock, durations: Iterator[int], protocol: timing.Protocol = FULL) -> dict[str, Any]:
    return take_session(run_of(clock, durations), protocol, Place(), lambda event: None)


def test_a_fast_model_warms_up_for_200_ms_and_samples_for_a_second(clock: Clock) -> None:
    found = session(clock, constant(MS))
    assert found["warm_ups"] == 200
    assert found["samples_ns"] == [MS] * 1000


def test_a_slow_model_is_sampled_64_times(clock: Clock) -> None:
    found = session(clock, constant(100 * MS))
    assert found["warm_ups"] == 20  # two windows
    assert len(found["samples_ns"]) == 64


def test_a_very_slow_model_ends_after_ten_seconds(clock: Clock) -> None:
    assert len(session(clock, constant(1000 * MS))["samples_ns"]) == 10
    assert len(session(clock, constant(20_000 * MS))["samples_ns"]) == 3


def test_warm_up_goes_on_until_two_windows_agree(clock: Clock) -> None:
    def cooling() -> Iterator[int]:
        for run in range(100):
            yield 50 * MS - run * 400_000
        yield from constant(10 * MS)

    found = session(clock, cooling())
    assert 100 < found["warm_ups"] <= 125
    assert set(found["samples_ns"]) == {10 * MS}


def test_runs_that_never_settle_are_doubted(clock: Clock) -> None:
    def growing() -> Iterator[int]:
        duration = 1.0 * MS
        while True:
            yield int(duration)
            duration *= 1.01

    found = session(clock, growing())
    assert any("not settled" in doubt or "had not settled" in doubt for doubt in found["doubts"])


def test_the_quick_protocol_takes_20_runs_or_200_ms(clock: Clock) -> None:
    assert len(session(clock, constant(MS), QUICK)["samples_ns"]) == 200
    assert len(session(clock, constant(50 * MS), QUICK)["samples_ns"]) == 20
    assert len(session(clock, constant(1000 * MS), QUICK)["samples_ns"]) == 3


def test_the_speed_is_read_before_between_and_after_the_runs(clock: Clock) -> None:
    found = session(clock, constant(5 * MS))
    assert len(found["probes_ns"]) == 2 + 49  # every 20 ms of a second
    assert all(reading > 0 for reading in found["probes_ns"])
    assert len(session(clock, constant(1000 * MS))["probes_ns"]) == 2 + 9


def test_a_session_that_drifts_is_doubted_and_not_voided(clock: Clock) -> None:
    def heating() -> Iterator[int]:
        yield from [MS] * 600
        yield from constant(MS * 6 // 5)

    found = session(clock, heating())
    sentence = "Runs drifted: the last third took 20% longer than the first."
    assert sentence in found["doubts"]
    assert sentence not in found["voided"]


def test_a_small_drift_and_few_runs_are_not_doubted() -> None:
    assert drift([100] * 10 + [105] * 10 + [109] * 10) == []
    assert drift([100] * 4 + [200] * 10) == []
    assert drift([120] * 10 + [110] * 10 + [100] * 10) == ["Runs drifted: the last third took 17% less than the first."]


def test_the_least_busy_cores_are_chosen() -> None:
    now = read_cores()
    if len(now) < 2 or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core leaves no choice")
    idle = max(now)
    # as if, since boot, only that core had rested
    before = {core: Core(0 if core != idle else load.busy, 0, 0) for core, load in now.items()}
    assert choose_cores(1, before) == [idle]
    assert len(choose_cores(2, before)) == 2


@pytest.mark.parametrize("count", [0, -1, 4096])
def test_cores_that_are_not_there_are_refused(count: int) -> None:
    with pytest.raises(BadInput, match="Change threads"):
        choose_cores(count, {})
