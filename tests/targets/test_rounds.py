"""How a device by itself times engines beside each other, and what it writes down."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from targets import results
from targets.errors import BadInput
from targets.profiles.merge import read_export
from targets.rounds import MAX_REPEATS, take_rounds

DEVICE: dict[str, Any] = {
    "device_class": {"cpu": "A board"}, "stack": {"runtime": "x"}, "regime": {"threads": 1}, "observed": {"host": "h"},
    "emulated": False,
}  # fmt: skip


def uncooled() -> bool:
    raise AssertionError("nothing was throttled")


def session(*samples: int, voided: bool = False) -> dict[str, Any]:
    said = ["Something else ran."] if voided else []
    return {
        "samples_ns": list(samples), "probes_ns": [40], "warm_ups": 3, "doubts": [], "voided": said, "protocol": "full",
        "conditions": {},
    }  # fmt: skip


def taker(name: str, log: list[str], *, voided: int = 0) -> Callable[[], dict[str, Any]]:
    """Sessions of which the first so many are disturbed."""

    def take() -> dict[str, Any]:
        log.append(name)
        return session(1, 2, 3, voided=log.count(name) <= voided)

    return take


def test_every_round_takes_each_engine_once_in_an_order_of_its_own() -> None:
    log: list[str] = []
    timed = take_rounds([taker(name, log) for name in "abc"], 8, lambda done, total: None, uncooled)
    rounds = [log[start : start + 3] for start in range(0, 24, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    assert [len(each.sessions) for each in timed] == [8, 8, 8]
    assert timed[0].median_ns == 2


def test_what_was_disturbed_is_taken_again_and_kept_where_it_stays_so() -> None:
    log: list[str] = []
    (once,) = take_rounds([taker("once", log, voided=1)], 1, lambda done, total: None, uncooled)
    assert (log.count("once"), once.disturbed) == (2, 0)
    (always,) = take_rounds([taker("always", log, voided=99)], 1, lambda done, total: None, uncooled)
    assert (log.count("always"), always.disturbed) == (1 + MAX_REPEATS, 1)
    assert len(always.sessions) == 1


def test_results_are_an_export_that_is_read_back_whole(tmp_path: Path) -> None:
    ran = [results.Ran("ab" * 32, "fp16", [session(5, 6), session(7)]), results.Ran("cd" * 32, "fp32", [session(9)])]
    results.write(tmp_path / "r.jsonl", results.encoded(DEVICE, "locked", ran))
    content = read_export(tmp_path / "r.jsonl")
    assert sorted(content.samples.values()) == ["[5,6]", "[7]", "[9]"]
    assert len(content.keys) == 2
    assert {json.loads(text)["warm_ups"] for text in content.documents.values() if "warm_ups" in text} == {3}
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_conditions_are_kept_with_the_samples_where_there_are_any(tmp_path: Path) -> None:
    told = {"before": {"heat": {"temperature_c": 41.5}}, "after": {}, "throttled": [], "lock": {"held": None}}
    for name, conditions in (("with", told), ("without", {})):
        ran = [results.Ran("ab" * 32, "fp32", [{**session(5), "conditions": conditions}])]
        results.write(tmp_path / name, results.encoded(DEVICE, "locked", ran))
    assert [
        json.loads(text)["conditions"]
        for text in read_export(tmp_path / "with").documents.values()
        if "warm_ups" in text
    ] == [told]
    assert '"conditions"' not in (tmp_path / "without").read_text()


def test_an_emulated_devices_times_are_not_written_down() -> None:
    with pytest.raises(BadInput, match="emulated"):
        results.encoded({**DEVICE, "emulated": True}, "locked", [])


def test_results_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot be written: .* Name another --output"):
        results.write(tmp_path / "missing" / "r.jsonl", "")
