"""Times from other conditions: exact where there are any, never unasked, never without saying what differs."""

import dataclasses
from collections.abc import Mapping

import pytest

from targets.device import Device
from targets.errors import BadInput
from targets.profiles.borrow import Borrowing
from targets.profiles.key import Difference, KernelKey
from targets.profiles.store import ProfileStore, Row
from tests.targets.writers import key_of

HERE = Device({"cpu": "test"}, {"runtime": "none", "version": "2"}, {"threads": 1}, {})


def key_here(width: int) -> KernelKey:
    return dataclasses.replace(key_of(width), stack=HERE.stack)


def row(key: KernelKey, session: str, taken_at: str = "2026-01-02T03:04:05Z") -> Row:
    return Row(key, (1, 2, 3), session, taken_at=taken_at)


def under(key: KernelKey, **parts: Mapping[str, object]) -> KernelKey:
    return dataclasses.replace(key, **parts)


OLDER = {"runtime": "none", "version": "1"}


def test_a_row_of_another_stack_is_found_only_when_that_is_asked_for(url: str) -> None:
    store, key = ProfileStore(url), key_here(8)
    store.add([row(under(key, stack=OLDER), "older")])
    assert store.find([key.digest]) == {}
    assert Borrowing(store, HERE, ["regime"]).find([key.digest]) == {}
    (found,) = Borrowing(store, HERE, ["stack"]).find([key.digest])[key.digest]
    assert found.differs == (Difference("stack.version", "1", "2"),)
    assert found.key.stack == OLDER
    assert found.samples_ns == (1, 2, 3)


def test_a_row_of_our_own_needs_no_loan(url: str) -> None:
    store, key = ProfileStore(url), key_here(8)
    store.add([row(under(key, stack=OLDER), "older"), row(key, "ours")])
    borrowing = Borrowing(store, HERE)
    (found,) = borrowing.find([key.digest])[key.digest]
    assert (found.session_id, found.differs) == ("ours", ())
    assert borrowing.as_dict() == {"kernels": 0, "loans": []}


@pytest.mark.parametrize("part", ["device", "regime", "op", "method"])
def test_nothing_but_what_was_named_may_differ(url: str, part: str) -> None:
    store, key = ProfileStore(url), key_here(8)
    store.add([row(under(key, stack=OLDER, **{part: {"other": 1}}), "other")])
    assert Borrowing(store, HERE).find([key.digest]) == {}
    several = Borrowing(store, HERE, ["stack", "regime", "device"]).find([key.digest])
    assert (key.digest in several) == (part in ("device", "regime"))


def test_the_nearest_conditions_lend_then_the_newest(url: str) -> None:
    store, key = ProfileStore(url), key_here(8)
    far = under(key, stack={"runtime": "some", "version": "1", "options": {"a": 1}})
    near = under(key, stack=OLDER)
    other = under(key, stack={"runtime": "none", "version": "1.5"})
    store.add([row(far, "far", "2026-03-01T00:00:00Z"), row(near, "near", "2026-01-01T00:00:00Z")])
    assert [r.session_id for r in Borrowing(store, HERE).find([key.digest])[key.digest]] == ["near"]
    store.add([row(other, "newer", "2026-02-01T00:00:00Z")])
    assert [r.session_id for r in Borrowing(store, HERE).find([key.digest])[key.digest]] == ["newer"]


def test_what_was_borrowed_is_told_by_source(url: str) -> None:
    store = ProfileStore(url)
    for width in (8, 16):
        store.add(
            [row(under(key_here(width), stack=OLDER), f"a{width}"), row(under(key_here(width), stack=OLDER), "b")]
        )
    borrowing = Borrowing(store, HERE)
    digests = [key_here(width).digest for width in (8, 16, 24)]
    assert borrowing.find(digests).keys() == set(digests[:2])
    borrowing.find(digests[:1])  # asked again, it counts once
    time = "2026-01-02T03:04:05Z"
    assert borrowing.as_dict() == {
        "kernels": 2,
        "loans": [
            {
                "kernels": 2,
                "rows": 4,
                "oldest": time,
                "newest": time,
                "differs": [{"path": "stack.version", "theirs": "1", "ours": "2"}],
            }
        ],
    }


def test_what_is_measured_since_is_borrowed_no_more(url: str) -> None:
    store, key = ProfileStore(url), key_here(8)
    store.add([row(under(key, stack=OLDER), "older")])
    borrowing = Borrowing(store, HERE)
    borrowing.find([key.digest])
    borrowing.add([row(key, "now")])
    assert borrowing.loans == ()
    assert [r.session_id for r in borrowing.find([key.digest])[key.digest]] == ["now"]


def test_a_borrowed_row_stays_what_it_was_when_it_is_added(url: str) -> None:
    store, key = ProfileStore(url), key_here(8)
    store.add([row(under(key, stack=OLDER), "older")])
    store.add(Borrowing(store, HERE).find([key.digest])[key.digest])
    assert store.find([key.digest]) == {}


@pytest.mark.parametrize("parts", [["op"], ["stack", "method"], []])
def test_what_cannot_be_borrowed_over_is_refused(url: str, parts: list[str]) -> None:
    with pytest.raises(BadInput, match="cannot be borrowed over"):
        Borrowing(ProfileStore(url), HERE, parts)
