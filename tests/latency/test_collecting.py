"""Which plans are measured, and by whom: with connections that only stand for one, since nothing here asks a device."""

import threading
from collections.abc import Sequence
from typing import cast

import pytest

from pipeline.latency.collecting import Plan, collect
from pipeline.latency.crew import at_work, shared_out
from pipeline.latency.table import Sample
from targets.connection import Connection
from targets.errors import TargetError


class Standing:
    """Stands for a connection that is at work on some device."""

    def __init__(self, place: str = "", repeated: int = 0) -> None:
        self.place, self.repeated = place, repeated
        self.interrupted = threading.Event()

    def interrupt(self) -> None:
        self.interrupted.set()


def crew_of(count: int) -> list[Connection]:
    return [cast(Connection, Standing()) for _ in range(count)]


def sample_of(plan: Plan) -> Sample:
    return Sample(dict(plan), {}, {}, float(plan["a"]), 0.0)


PLANS: Sequence[Plan] = [{"a": width} for width in (9, 3, 5, 3, 7, 1)]


class Book:
    """What is known, and which plans were taken, in order."""

    def __init__(self, known: Sequence[int] = ()) -> None:
        self.known = {width: sample_of({"a": width}) for width in known}
        self.taken: list[int] = []

    def find(self, plan: Plan) -> Sample | None:
        return self.known.get(plan["a"])

    def take(self, plan: Plan, by: Connection) -> Sample:
        self.taken.append(plan["a"])
        self.known[plan["a"]] = sample_of(plan)
        return self.known[plan["a"]]


@pytest.mark.parametrize("devices", [1, 3])
@pytest.mark.parametrize(
    ("known", "wanted", "samples", "taken"),
    [
        ((), 6, [9, 3, 5, 3, 7, 1], [9, 3, 5, 7, 1]),  # a plan that comes twice is taken once
        ((5, 1), 6, [9, 3, 5, 3, 7, 1], [9, 3, 7]),
        ((), 3, [9, 3, 5, 3], [9, 3, 5]),  # then what is known, up to the first that is not
        ((9, 3, 5, 7, 1), 1, [9, 3, 5, 3, 7, 1], []),
        ((), 1, [9], [9]),
    ],
)
def test_devices_side_by_side_find_what_one_finds(
    devices: int, known: list[int], wanted: int, samples: list[int], taken: list[int]
) -> None:
    book = Book(known)
    found, built = collect(PLANS, crew_of(devices), known=book.find, take=book.take, wanted_after=lambda first: wanted)
    assert [sample.channels["a"] for sample in found] == samples
    assert sorted(book.taken) == sorted(taken)
    assert built == len(taken)


def test_several_work_at_once_and_each_piece_is_done_once() -> None:
    meeting = threading.Barrier(3, timeout=20.0)

    def do(piece: int, by: Connection) -> tuple[int, int]:
        if piece < 3:
            meeting.wait()  # only passed when three are here at once
        return piece * piece, id(by)

    crew = crew_of(3)
    found = dict(shared_out(iter(range(8)), crew, do, lambda: None))
    assert {piece: square for piece, (square, _) in found.items()} == {piece: piece**2 for piece in range(8)}
    assert {by for _, by in found.values()} <= set(map(id, crew))


def test_one_connection_works_in_order_and_in_the_callers_thread() -> None:
    threads = []

    def do(piece: int, by: Connection) -> int:
        threads.append(threading.current_thread())
        return piece

    assert [piece for piece, _ in shared_out(iter(range(4)), crew_of(1), do, lambda: None)] == [0, 1, 2, 3]
    assert set(threads) == {threading.current_thread()}


def test_the_first_failure_ends_the_others() -> None:
    crew = [Standing(), Standing()]

    def do(piece: int, by: Connection) -> int:
        if piece == 0:
            raise TargetError("gone")
        assert cast(Standing, by).interrupted.wait(20.0)
        return piece

    drawn = iter(range(5))
    with pytest.raises(TargetError, match="gone"):
        list(shared_out(drawn, cast("list[Connection]", crew), do, lambda: None))
    assert sum(each.interrupted.is_set() for each in crew) == 1
    assert list(drawn) == [2, 3, 4]  # nothing more was begun


def test_progress_says_what_devices_do_and_what_was_asked_again() -> None:
    crew = [Standing("pi-1"), Standing("pi-2", 2), Standing()]
    text = " (2 devices at work, 1 waiting, 2 asked again after a device was lost)"
    assert at_work(cast("list[Connection]", crew)) == text
    assert at_work(crew_of(1)) == ""
