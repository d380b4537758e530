"""Models against each other: interleaved, disturbed sessions repeated."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from targets.connection import Connection
from targets.device import EMULATED
from targets.errors import BadInput
from targets.measure import MAX_REPEATS, measure
from targets.measurement import Session
from tests.targets.models import elementwise, saved
from tests.targets.test_measurement import DEVICE


class Scripted:
    """Gives out sessions as told: disturbances cannot be had on demand from a real device."""

    device = DEVICE

    def __init__(self, sessions: Sequence[Session] = ()) -> None:
        self.sessions = list(sessions)
        self.asked: list[str] = []

    def time(self, model: Path, *, shapes: Mapping[str, Any] | None = None, quick: bool = False) -> Session:
        self.asked.append(model.name)
        return self.sessions.pop(0) if self.sessions else Session((100, 100), 10)

    def as_connection(self) -> Connection:
        return cast(Connection, self)


GOOD = Session((100,), 10)
VOID = Session((150,), 10, voided=("The hypervisor took 9% of the pinned cores' time.",))


def test_every_round_times_every_model_once_in_an_order_drawn_by_the_seed() -> None:
    device = Scripted()
    measure([Path("a"), Path("b"), Path("c")], device.as_connection(), sessions=8, seed=1)
    rounds = [tuple(device.asked[start : start + 3]) for start in range(0, 24, 3)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert len(set(rounds)) > 1
    again = Scripted()
    measure([Path("a"), Path("b"), Path("c")], again.as_connection(), sessions=8, seed=1)
    assert again.asked == device.asked


def test_every_model_is_timed_on_its_own_connection_and_keeps_its_device() -> None:
    other = replace(DEVICE, device_class={"cpu": "other"})
    here, there = Scripted(), Scripted()
    there.device = other
    connections = [here.as_connection(), there.as_connection()]
    found = measure([Path("a"), Path("b")], connections, sessions=3)
    assert (here.asked, there.asked) == (["a"] * 3, ["b"] * 3)
    assert [each.device for each in found] == [DEVICE, other]
    with pytest.raises(BadInput, match="connections for 1 of 2"):
        measure([Path("a"), Path("b")], connections[:1])


def test_a_slower_device_is_not_taken_for_a_disturbed_one() -> None:
    """Its probe is slow in all sessions: each device has a limit of its own."""
    fast, slow = (Scripted([Session((100,), 10, probes_ns=(probe,))] * 4) for probe in (100, 300))
    slow.device = replace(DEVICE, device_class={"cpu": "other"})
    found = measure([Path("a"), Path("b")], [fast.as_connection(), slow.as_connection()], sessions=4)
    assert [each.repeats for each in found] == [0, 0]
    assert all(not session.voided for each in found for session in each.sessions)


def test_a_disturbed_session_is_repeated() -> None:
    (found,) = measure([Path("a")], Scripted([VOID, VOID, GOOD]).as_connection(), sessions=1)
    assert found.sessions == (GOOD,)
    assert found.doubts == ()


def test_times_of_an_emulated_device_say_that_they_are_worth_nothing() -> None:
    device = Scripted([VOID])
    device.device = replace(DEVICE, emulated=True)
    found = measure([Path("a"), Path("b")], device.as_connection(), sessions=2)
    assert [each.doubts[0] for each in found] == [EMULATED, EMULATED]
    assert len(device.asked) == 4  # and none of them is worth a second try


def test_what_stays_disturbed_is_kept_and_says_so() -> None:
    device = Scripted([VOID] * (1 + MAX_REPEATS) + [GOOD])
    (found,) = measure([Path("a")], device.as_connection(), sessions=2)
    assert found.sessions == (VOID, GOOD)
    assert len(device.asked) == 5
    assert found.doubts == (f"1 of 2 sessions stayed disturbed after repeats. For one: {VOID.voided[0]}",)


def test_a_device_that_is_always_busy_takes_at_most_twice_the_time() -> None:
    device = Scripted([VOID] * 1000)
    measure([Path("a"), Path("b")], device.as_connection(), sessions=10)
    assert len(device.asked) == 40


def probed(reading: int, sample: int = 100) -> Session:
    return Session((sample,), 10, probes_ns=(reading,) * 4)


def test_a_session_on_a_core_that_was_slower_than_usual_is_repeated() -> None:
    device = Scripted([probed(40), probed(72), probed(41), probed(40), probed(42)])
    (found,) = measure([Path("a")], device.as_connection(), sessions=4)
    assert [session.probe_ns for session in found.sessions] == [40, 42, 41, 40]
    assert found.repeats == 1
    assert found.doubts == ()


def test_the_models_own_times_void_nothing() -> None:
    scripted = [probed(40, sample) for sample in (100, 100, 900, 100, 50)]
    device = Scripted(list(scripted))
    (found,) = measure([Path("a")], device.as_connection(), sessions=5)
    assert found.sessions == tuple(scripted)
    assert found.repeats == 0


def test_of_disturbed_sessions_the_last_is_kept_not_the_fastest() -> None:
    tried = [replace(VOID, samples_ns=(sample,)) for sample in (150, 110, 130, 140)]
    (found,) = measure([Path("a")], Scripted(tried).as_connection(), sessions=1)
    assert found.sessions == (tried[-1],)


def test_one_limit_holds_for_all_models() -> None:
    """Seven of the first's ten sessions were slow. A limit of its own would be high enough to keep them."""
    device = Scripted()

    def time(model: Path, *, shapes: Mapping[str, Any] | None = None, quick: bool = False) -> Session:
        device.asked.append(model.name)
        slow = model.name == "a" and 3 < device.asked.count("a") <= 10
        return probed(72 if slow else 40)

    device.time = time  # type: ignore[method-assign]
    a, b = measure([Path("a"), Path("b")], device.as_connection(), sessions=10)
    assert (a.repeats, b.repeats) == (7, 0)
    assert {session.probe_ns for session in a.sessions} == {40}


def test_a_core_that_stays_slow_takes_at_most_twice_the_time_and_is_said() -> None:
    device = Scripted([probed(40)] * 6 + [probed(72)] * 1000)
    (found,) = measure([Path("a")], device.as_connection(), sessions=10)
    assert len(device.asked) == 20
    assert found.repeats == 10
    reason = "Its core computed 1.80 times slower than usual, by the speed probe."
    assert found.doubts == (f"4 of 10 sessions stayed disturbed after repeats. For one: {reason}",)


def test_doubts_and_the_quick_protocol_travel_with_the_number() -> None:
    device = Scripted([Session((100,), 10, ("The clock fell.",), (), "quick")] * 2)
    (found,) = measure([Path("a")], device.as_connection(), sessions=2)
    assert found.doubts[0] == "2 of 2 sessions are doubtful. For one: The clock fell."
    assert "quick" in found.doubts[1]


def test_progress_counts_sessions_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    measure(
        [Path("a"), Path("b")],
        Scripted().as_connection(),
        sessions=2,
        on_progress=lambda done, total, note: seen.append((done, total)),
    )
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_sessions_are_refused() -> None:
    with pytest.raises(BadInput, match="0 sessions"):
        measure([Path("a")], Scripted().as_connection(), sessions=0)


def test_real_models_are_measured_on_a_real_device(connection: Connection, tmp_path: Path) -> None:
    paths = [saved(elementwise((1, size)), tmp_path / f"{size}.onnx") for size in (4, 8)]
    found = measure(paths, connection, sessions=1, quick=True)
    assert [len(each.sessions) for each in found] == [1, 1]
    assert all(each.device == connection.device for each in found)
