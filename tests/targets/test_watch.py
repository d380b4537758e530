"""What the system tells of a disturbance, on counters that the test writes: what voids a session, what is a doubt."""

import os
from pathlib import Path
from typing import Any

import pytest

from targets import watch
from targets.load import Core
from targets.watch import State, compare, disturbances, neighbours

SECOND = 1_000_000_000
QUIET = State(
    cores={0: Core(0, 0, 0), 1: Core(0, 0, 0)},
    own_s=0.0,
    waited_ns=0,
    stopped_ns=0,
    clock_khz=2_000_000,
    load_average=0.5,
    now_ns=0,
)


def later(**changes: Any) -> State:
    """A second after `QUIET`, in which nothing else ran."""
    cores = {0: Core(100, 0, 100), 1: Core(0, 0, 100)}
    return QUIET._replace(cores=cores, own_s=1.0, now_ns=SECOND)._replace(**changes)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_a_quiet_second_is_neither_doubted_nor_voided() -> None:
    assert compare(QUIET, later(), [0]) == ([], [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"waited_ns": 60_000_000}, "It waited 6% of its time for a core that something else had."),
        ({"stopped_ns": 250_000_000}, "The container's quota of processor time stopped it for 25% of its time."),
        ({"clock_khz": 1_700_000}, "The clock fell from 2.00 to 1.70 GHz."),
    ],
)
def test_what_took_time_from_the_session_voids_it(changes: dict[str, Any], reason: str) -> None:
    assert compare(QUIET, later(**changes), [0]) == ([], [reason])


@pytest.mark.parametrize(
    "changes", [{"waited_ns": 5_000_000}, {"stopped_ns": 10_000_000}, {"clock_khz": 1_900_000}, {"waited_ns": None}]
)
def test_little_of_it_voids_nothing(changes: dict[str, Any]) -> None:
    assert compare(QUIET, later(**changes), [0]) == ([], [])


def test_waiting_is_a_share_of_all_pinned_cores() -> None:
    assert compare(QUIET, later(waited_ns=60_000_000, own_s=2.0), [0, 1])[1] == []


def test_a_crowded_machine_is_a_doubt() -> None:
    assert compare(QUIET, later(load_average=3.2), [0]) == (
        ["The load average was 3.2 on 2 cores: more wanted to run than fits."],
        [],
    )


def test_what_cannot_be_seen_is_a_doubt() -> None:
    blind = QUIET._replace(cores={}, waited_ns=None, clock_khz=0)
    doubts, voided = compare(blind, blind._replace(now_ns=SECOND), [])
    assert "does not let us pin cores or see their load" in doubts[0]
    assert voided == []


def test_stolen_time_voids_a_session() -> None:
    before, after = {0: Core(0, 0, 0), 1: Core(0, 0, 0)}, {0: Core(90, 10, 100), 1: Core(0, 50, 100)}
    assert disturbances(before, after, [0], own_ticks=90) == ["The hypervisor took 10% of the pinned cores' time."]


def test_another_process_on_the_core_voids_a_session() -> None:
    before, after = {0: Core(0, 0, 0)}, {0: Core(100, 0, 100)}
    assert disturbances(before, after, [0], own_ticks=70) == ["Other processes took 30% of the pinned cores' time."]


def test_small_noise_voids_nothing() -> None:
    before, after = {0: Core(0, 0, 0)}, {0: Core(100, 4, 104)}
    assert disturbances(before, after, [0], own_ticks=95) == []
    short = {0: Core(20, 3, 23)}  # three ticks of a short session are rounding
    assert disturbances(before, short, [0], own_ticks=17) == []


def test_busy_neighbours_are_a_doubt() -> None:
    before, after = {0: Core(0, 0, 0), 1: Core(0, 0, 0)}, {0: Core(100, 0, 100), 1: Core(80, 0, 100)}
    assert "80%" in neighbours(before, after, [0])[0]
    assert neighbours(before, after, [0, 1]) == []


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(watch, "SYSTEM", tmp_path / "sys")
    monkeypatch.setattr(watch, "PROCESS", tmp_path / "self")
    return tmp_path


def test_waiting_is_summed_over_threads(system: Path) -> None:
    written(system / "self/task/1/schedstat", "1000 70 3\n")
    written(system / "self/task/2/schedstat", "50 5 1\n")
    assert watch.waited_ns() == 75


def test_a_kernel_that_does_not_count_waiting_is_not_believed(system: Path) -> None:
    assert watch.waited_ns() is None
    written(system / "self/task/1/schedstat", "0 0 0\n")
    assert watch.waited_ns() is None


def test_quotas_count_in_both_kinds_of_control_groups_up_to_the_root(system: Path) -> None:
    assert watch.stopped_ns() == 0
    written(system / "self/cgroup", "4:cpu,cpuacct:/pod/box\n3:memory:/pod\n0::/slice/unit\n")
    written(system / "sys/fs/cgroup/cpu,cpuacct/pod/cpu.stat", "nr_periods 3\nnr_throttled 2\nthrottled_time 500\n")
    written(system / "sys/fs/cgroup/slice/unit/cpu.stat", "usage_usec 9\nnr_throttled 1\nthrottled_usec 2\n")
    assert watch.stopped_ns() == 2500


def test_the_slowest_pinned_clock_is_read(system: Path) -> None:
    cpus = system / "sys/devices/system/cpu"
    for core, clock in ((0, 3_000_000), (1, 1_500_000), (2, 1_000_000)):
        written(cpus / f"cpu{core}/cpufreq/scaling_cur_freq", f"{clock}\n")
    assert watch.clocks([0, 1]) == 1_500_000
    assert watch.clocks([7]) == 0


def test_this_machine_can_be_looked_at() -> None:
    before, after = watch.look([0]), watch.look([0])
    assert after.now_ns > before.now_ns
    assert after.clock_khz >= 0
