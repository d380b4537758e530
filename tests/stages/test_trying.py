"""A wide interval is narrowed with more sessions before anything is concluded from it; all of them count."""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pipeline.goal import Bound
from pipeline.stages.trying import SESSIONS, interval_of, measure_until_narrow, pooled
from targets.connection import Connection, Engine
from targets.device import Device
from targets.measurement import Measurement, Session, ratio

DEVICE = Device({"cpu": "test"}, {"os": "test"}, {"threads": 1}, {})
BASE, CUT = (Engine(Path(name), "0" * 64, "test", "test") for name in ("base", "cut"))


class Noisy:
    """A device that times the cut engine at half of the uncut one, each session off by so much."""

    device = DEVICE

    def __init__(self, noise: float) -> None:
        self.noise, self.draws, self.timed = noise, np.random.default_rng(0), 0

    def time(self, engine: Engine, **_: Any) -> Session:
        self.timed += 1
        centre = 1e6 if engine == BASE else 5e5
        return Session((round(centre * math.exp(self.draws.normal(0, self.noise))),) * 3, 0)


def measured(noise: float, bound: Bound, most: int) -> tuple[Measurement, Measurement]:
    device = Noisy(noise)
    sides = measure_until_narrow(BASE, CUT, cast(Connection, device), bound, {}, most=most, quick=False, seed=0)
    assert device.timed == sum(len(side.sessions) for side in sides)
    return sides


@pytest.mark.parametrize("bound", [Bound("latency", 0.5, relative=True), Bound("latency", 5e5, relative=False)])
def test_wide_intervals_get_more_sessions_and_narrow_ones_do_not(bound: Bound) -> None:
    for noise, batches in ((0.002, 1), (0.3, 4)):
        before, after = measured(noise, bound, 4)
        assert len(before.sessions) == len(after.sessions) == batches * SESSIONS
    before, after = measured(0.03, bound, 4)
    assert SESSIONS < len(after.sessions) <= 4 * SESSIONS
    assert spread(before, after, bound) < spread(*measured(0.03, bound, 1), bound)


def spread(before: Measurement, after: Measurement, bound: Bound) -> float:
    _, centre, high = interval_of(before, after, bound)
    return high / centre


def test_interval_that_lies_far_from_the_goal_is_wide_enough() -> None:
    for limit in (0.1, 0.95):
        before, after = measured(0.05, Bound("latency", limit, relative=True), 4)
        assert len(before.sessions) == len(after.sessions) == SESSIONS


def test_pooled_sessions_give_the_ratio_of_all_of_them() -> None:
    bound = Bound("latency", 0.5, relative=True)
    before, after = measured(0.02, bound, 1)
    more = measured(0.5, bound, 1)
    together = pooled(before, more[0]), pooled(after, more[1])
    assert together[0].sessions == before.sessions + more[0].sessions
    logs = [np.log([session.median_ns for session in side.sessions]) for side in together]
    assert ratio(*together).value == pytest.approx(math.exp(logs[0].mean() - logs[1].mean()))
