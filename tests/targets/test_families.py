"""Staircases are found by what varies, whatever it is called and wherever it stands."""

import dataclasses
from typing import Any

from targets.profiles.families import Family, families, find_families, steps
from targets.profiles.key import KernelKey
from targets.profiles.overview import kernels
from targets.profiles.search import Wanted, operators
from targets.profiles.store import ProfileStore, Row
from tests.targets.writers import key_of


def keys(*ops: dict[str, Any]) -> dict[str, KernelKey]:
    made = [dataclasses.replace(key_of(1), op=op) for op in ops]
    return {key.digest: key for key in made}


def found(*ops: dict[str, Any]) -> list[Family]:
    return sorted(families(keys(*ops)), key=lambda family: (family.varies, str(family.op)))


def test_kernels_that_differ_in_width_are_a_staircase() -> None:
    (family,) = found(*({"op": "Conv", "other": 8, "width": width} for width in (32, 8, 16)))
    assert family.op == {"op": "Conv", "other": 8, "width": "*"}
    assert (family.varies, list(family.keys)) == ("width", [8, 16, 32])


def test_another_kernel_is_another_staircase() -> None:
    ops = [{"op": op, "other": other, "width": width} for op in "AB" for other in (8, 9, 10, 11) for width in (1, 2, 3)]
    every = found(*ops)
    assert len(every) == 8  # and none along `other`, which is not what the kernel is swept over
    assert {len(family.keys) for family in every} == {3}
    assert len({family.id for family in every}) == 8


def test_two_widths_make_a_staircase_along_each() -> None:
    pairs = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3, 4)]
    every = found(*({"family": {"ops": ["Conv"]}, "widths": list(pair)} for pair in pairs))
    assert [family.varies for family in every].count("widths.0") == 4
    assert [family.varies for family in every].count("widths.1") == 3
    (diagonal,) = [family for family in every if "=" in family.varies]
    assert (diagonal.varies, list(diagonal.keys)) == ("widths.0 = widths.1", [1, 2, 3])


def test_a_number_by_another_name_is_found_too() -> None:
    (family,) = found(*({"op": "Conv", "sides": {"channels": number}, "fixed": 3} for number in range(5)))
    assert (family.varies, list(family.keys)) == ("sides.channels", [0, 1, 2, 3, 4])


def test_two_widths_are_no_staircase_and_truth_is_no_number() -> None:
    assert found({"width": 1}, {"width": 2}) == []
    assert found({"width": True}, {"width": False}, {"width": None}) == []


def test_a_staircase_has_the_median_of_each_width(url: str) -> None:
    store = ProfileStore(url)
    ops = [{"op": "Conv", "width": width} for width in (1, 2, 3)]
    for digest, key in keys(*ops).items():
        times = [1000 * key.op["width"] + extra for extra in (0, 10, 500)]
        store.add(Row(key, (time,) * 4, f"s{number}") for number, time in enumerate(times))
        assert digest == key.digest
    (family,) = find_families(store.database, Wanted(op="conv", place="alone"))
    assert [(step.width, step.time_ns, step.rows) for step in steps(family, store.find(family.keys.values()))] == [
        (1, 1010, 3),
        (2, 2010, 3),
        (3, 3010, 3),
    ]
    assert find_families(store.database, Wanted(op="Gemm")) == []
    assert find_families(store.database, Wanted(place="elsewhere")) == []


def test_operators_are_named_at_any_depth() -> None:
    assert operators({"op": "Conv", "fused": ["Conv", "Relu"]}) == ("Conv", "Relu")
    assert operators({"family": {"ops": ["Conv", "Add"]}, "widths": [1]}) == ("Conv", "Add")
    assert operators({"network": "0f"}) == ()


def test_kernels_are_listed_newest_first_with_their_best_time(url: str) -> None:
    store = ProfileStore(url)
    first, second = keys({"op": "Conv", "n": 1}, {"op": "Gemm", "n": 2}).values()
    store.add([Row(first, (5, 5, 5), "a", taken_at="2026-01-01T00:00:00Z")])
    store.add([Row(second, (9,), "b", taken_at="2026-01-02T00:00:00Z")])
    store.add([Row(first, (3, 3, 3), "c", taken_at="2026-01-03T00:00:00Z"), Row(first, (4,), "c", 1)])
    lines, total = kernels(store.database, Wanted())
    assert total == 2
    assert [(line.key.op["op"], line.rows, line.sessions, line.best_ns, line.median_ns) for line in lines] == [
        ("Conv", 3, 2, 3, 4),
        ("Gemm", 1, 1, 9, 9),
    ]
    assert (lines[0].oldest, lines[0].newest) == ("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z")
    limited, total = kernels(store.database, Wanted(), 1)
    assert (len(limited), total) == (1, 2)
    assert kernels(store.database, Wanted(device="nothing says this")) == ([], 0)
