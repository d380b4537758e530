"""A throttled session is taken again after the device has cooled down. Nothing sleeps here: time is the test's."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from targets.conditions import cooling
from targets.conditions.cooling import LEAST_S, MOST_S, cool
from targets.connection import Connection, connect
from targets.measure import MAX_REPEATS, measure
from targets.measurement import Session
from targets.rounds import take_rounds
from targets.target import find_target
from tests.targets.conditions.trees import place, tree
from tests.targets.test_measure import Scripted
from tests.targets.test_rounds import session

HOT = "The processor throttled itself for heat."
THROTTLED = Session((150,), 10, voided=(HOT,), conditions={"throttled": [HOT]})
BUSY = Session((150,), 10, voided=("Other processes took 30% of the pinned cores' time.",))
GOOD = Session((100,), 10)


def cooled(
    root: Path, temperature_c: Callable[[float], float | None], held_until_s: float = 0.0
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The answer and the events of a wait on a fake board whose temperature and cooling device follow the time."""
    now_s = 0.0
    events: list[dict[str, Any]] = []

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        update()

    def update() -> None:
        device, zone = "sys/class/thermal/cooling_device0", "sys/class/thermal/thermal_zone0"
        tree(root, {f"{device}/type": "cpufreq-cpu0", f"{device}/cur_state": int(now_s < held_until_s)})
        degrees = temperature_c(now_s)
        if degrees is not None:
            tree(root, {f"{zone}/type": "cpu-thermal", f"{zone}/temp": round(1000 * degrees)})

    update()
    return cool(place(root, 0), events.append, sleep), events


def test_it_waits_until_nothing_holds_the_clock_down(tmp_path: Path) -> None:
    found, events = cooled(tmp_path, lambda now: None, held_until_s=20)
    assert found == {"waited_s": 20, "left": []}
    assert [event["waited_s"] for event in events] == list(range(20))


def test_it_waits_until_the_device_is_cooler(tmp_path: Path) -> None:
    found, events = cooled(tmp_path, lambda now: 85 - now / 2)
    assert found == {"waited_s": 16, "left": []}  # at half a degree a second, eight take sixteen
    assert events[-1]["temperature_c"] == 77.5


def test_a_temperature_that_falls_no_more_is_as_cool_as_it_gets(tmp_path: Path) -> None:
    found, _ = cooled(tmp_path, lambda now: 62.0)
    assert found == {"waited_s": 10, "left": []}


def test_it_waits_a_little_where_nothing_can_be_seen(tmp_path: Path) -> None:
    assert cooled(tmp_path, lambda now: None)[0] == {"waited_s": LEAST_S, "left": []}


def test_it_does_not_wait_for_ever_and_says_what_is_left(tmp_path: Path) -> None:
    found, events = cooled(tmp_path, lambda now: 95 + now, held_until_s=1e9)
    assert found == {"waited_s": MOST_S, "left": ["The system held the processor's clock down for heat."]}
    assert len(events) == MOST_S


class Cooling(Scripted):
    def __init__(self, sessions: Sequence[Session], cools: bool = True) -> None:
        super().__init__(sessions)
        self.cooled = 0
        self.cools = cools

    def cool(self, on_wait: Callable[[str], None]) -> bool:
        self.cooled += 1
        self.asked.append("cool")
        on_wait("cooling down, 71 degrees")
        return self.cools


def test_a_throttled_session_is_repeated_after_cooling() -> None:
    device = Cooling([THROTTLED, THROTTLED, GOOD])
    said: list[tuple[int, int, str]] = []
    (found,) = measure([Path("a")], device.as_connection(), sessions=1, on_progress=lambda *event: said.append(event))
    assert device.asked == ["a", "cool", "a", "cool", "a"]
    assert found.sessions == (GOOD,)
    assert found.repeats == 2
    assert (0, 1, "cooling down, 71 degrees") in said


def test_it_is_repeated_three_times_at_most_and_then_says_so() -> None:
    device = Cooling([THROTTLED] * (1 + MAX_REPEATS))
    (found,) = measure([Path("a")], device.as_connection(), sessions=1)
    assert device.cooled == MAX_REPEATS == 3
    assert found.doubts == (f"1 of 1 sessions stayed disturbed after repeats. For one: {HOT}",)


def test_a_device_that_does_not_cool_down_is_waited_for_once() -> None:
    device = Cooling([THROTTLED] * 100, cools=False)
    measure([Path("a")], device.as_connection(), sessions=4)
    assert device.cooled == 1
    assert device.asked.count("a") == 8


def test_other_disturbances_are_not_waited_for() -> None:
    device = Cooling([BUSY, GOOD])
    measure([Path("a")], device.as_connection(), sessions=1)
    assert device.asked == ["a", "a"]


def test_a_device_by_itself_cools_down_as_well() -> None:
    log: list[str] = []

    def take() -> Mapping[str, Any]:
        log.append("take")
        hot = log.count("take") < 3
        return {**session(1, 2, 3, voided=hot), "conditions": {"throttled": [HOT]} if hot else {}}

    def cool() -> bool:
        log.append("cool")
        return True

    (found,) = take_rounds([take], 1, lambda done, total: None, cool)
    assert log == ["take", "cool", "take", "cool", "take"]
    assert found.disturbed == 0


def test_what_a_device_waits_for_is_shown(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's answers are the test's; the next test has a real one."""
    asked: list[str] = []

    def ask(verb: str, arguments: dict[str, Any], silence_s: float, on_event: Any = None) -> Any:
        asked.append(verb)
        for event in ({"stage": "cool", "waited_s": 0.0, "temperature_c": 71.4}, {"stage": "cool", "waited_s": 1.0}):
            on_event(event)
        return {"waited_s": 2.0, "left": left}

    monkeypatch.setattr(connection, "_ask", ask)
    waits: list[str] = []
    left: list[str] = []
    assert connection.cool(waits.append) is True
    assert asked == ["cool"]
    assert waits == ["cooling down, 71 degrees", "cooling down"]
    left.append(HOT)
    assert connection.cool() is False


@pytest.mark.slow  # it waits as long as a device is waited for, five seconds at least
def test_cooling_runs_on_a_real_agent() -> None:
    waits: list[str] = []
    with connect(find_target("local")) as device:
        device.cool(waits.append)
    assert len(waits) >= cooling.LEAST_S
